use super::*;

#[test]
fn a_reused_pid_is_not_the_supervisor() {
    let this = Supervisor::this();
    assert!(this.is_alive());
    assert!(!Supervisor { started: this.started + 1, ..this.clone() }.is_alive());
    assert!(!Supervisor { boot: "another".into(), ..this }.is_alive());
}

#[test]
fn the_record_survives_being_written_and_read() {
    let dir = crate::run_dir::scratch("supervisor");
    assert_eq!(Supervisor::read(dir.path()).unwrap(), None);
    let this = Supervisor::this();
    this.write(dir.path()).unwrap();
    assert_eq!(Supervisor::read(dir.path()).unwrap(), Some(this));
}

#[test]
fn only_directories_of_the_run_s_name_are_runs() {
    assert_eq!(pid_in("cluster-12", "cluster"), Some(12));
    assert_eq!(pid_in("cluster-12-1", "cluster"), Some(12));
    assert_eq!(pid_in("cluster-log", "cluster"), None);
    assert_eq!(pid_in("api-12", "cluster"), None);
}

#[test]
fn no_process_is_found_in_a_pin_that_is_only_a_file() {
    let dir = crate::run_dir::scratch("pins");
    fs::write(dir.path().join("n1"), "").unwrap();
    assert_eq!(processes_in(dir.path()).unwrap(), BTreeSet::new());
}
