//! The real kubectl, with everything that it prints.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{io::AsyncWriteExt, process::Command};

/// kubectl as some user.
#[derive(Clone, Debug)]
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

/// What a command printed, and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct Printed {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Printed {
    /// The standard output of a command that must succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The standard error of a command that must fail.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_ne!(self.code, Some(0), "not refused: {}{}", self.stdout, self.stderr);
        self.stderr
    }
}

impl Kubectl {
    pub(crate) fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { program, kubeconfig }
    }

    /// Runs it without standard input.
    pub(crate) async fn run(&self, args: &[&str]) -> Printed {
        self.run_with(args, "").await
    }

    /// Runs it with `input` on standard input.
    pub(crate) async fn run_with(&self, args: &[&str], input: &str) -> Printed {
        let cache = self.kubeconfig.with_file_name("kubectl-cache");
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(cache).args(args);
        printed(&mut command, input).await
    }
}

/// A program of this workspace, from beside the test: `cargo build --workspace --bins` makes them.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(built.is_file(), "{} is missing: run `cargo build --workspace --bins` first", built.display());
    built
}

/// Runs a command to its end.
pub(crate) async fn printed(command: &mut Command, input: &str) -> Printed {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let write = async move {
        // A program that needs no input may have closed it.
        let _ = stdin.write_all(input.as_bytes()).await;
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), write);
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Printed { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
