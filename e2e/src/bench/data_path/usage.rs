//! What a process has used: CPU time of its own and of the commands it ran, and memory.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::clock_getcpuclockid;
use nix::unistd::{Pid, SysconfVar, sysconf};

/// CPU time of a process and of its children that have ended. Its own is exact, by its CPU clock (clock_getcpuclockid(3)),
/// which counts threads that are gone too; its children's is that of proc_pid_stat(5), in ticks.
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    let own = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?.now()?;
    let path = format!("/proc/{pid}/stat");
    let ticks = children_ticks(&std::fs::read_to_string(&path).context(path)?)?;
    let rate = sysconf(SysconfVar::CLK_TCK)?.context("invariant: the kernel has a tick")?;
    Ok(Duration::from(own) + Duration::from_secs_f64(ticks as f64 / rate as f64))
}

/// `cutime` and `cstime`, fields 16 and 17. The name, in brackets, may hold anything.
fn children_ticks(stat: &str) -> Result<u64> {
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let mut fields = rest.split_whitespace().skip(13);
    let mut next = || -> Result<u64> { Ok(fields.next().context("a short stat")?.parse()?) };
    Ok(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_children_is_read_past_any_name() {
        let stat = "7 (a) b 1) S 1 7 7 0 -1 4194560 100 200 0 0 11 12 13 14 20 0 1 0 5 6 7";
        assert_eq!(children_ticks(stat).unwrap(), 27);
        assert!(children_ticks("7 (a) S 1").is_err());
    }

    #[test]
    fn work_shows_in_the_clock() {
        let before = cpu(std::process::id()).unwrap();
        let sum = (0..2_000_000_u64).fold(0, |sum: u64, n| sum.wrapping_mul(31) ^ n);
        assert_ne!(sum, 0);
        assert!(cpu(std::process::id()).unwrap() > before);
    }
}
