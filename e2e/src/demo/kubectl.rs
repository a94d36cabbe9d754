//! kubectl as a user types it: exit status, stdout and stderr are all part of what the user sees.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// kubectl, or another program that speaks to the same cluster.
#[derive(Debug, Clone)]
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

/// What a command said.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// Exit code; -1 if a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Fails with what the command said unless it succeeded.
    pub(crate) fn ok(self) -> Result<Self> {
        ensure!(self.code == 0, "exit code {}: {}{}", self.code, self.stderr, self.stdout);
        Ok(self)
    }

    /// Fails unless the command was refused and said every one of `words`.
    pub(crate) fn refused_with(self, words: &[&str]) -> Result<Self> {
        ensure!(self.code != 0, "should have been refused, but: {}{}", self.stdout, self.stderr);
        self.says(words)
    }

    /// Fails unless stderr holds every one of `words`.
    pub(crate) fn says(self, words: &[&str]) -> Result<Self> {
        for word in words {
            ensure!(self.stderr.contains(word), "should say '{word}', but says: {}{}", self.stderr, self.stdout);
        }
        Ok(self)
    }
}

impl Kubectl {
    pub(crate) const fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { program, kubeconfig }
    }

    /// The same cluster by another program.
    pub(crate) fn with_program(&self, program: PathBuf) -> Self {
        Self { program, kubeconfig: self.kubeconfig.clone() }
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Result<Said> {
        self.run_with(args, "").await
    }

    /// Runs it to its end with `input` on stdin.
    pub(crate) async fn run_with(&self, args: &[&str], input: &str) -> Result<Said> {
        let name = || format!("{} {}", self.program.display(), args.join(" "));
        let mut child = Command::new(&self.program)
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(name)?;
        let mut stdin = child.stdin.take().context("invariant: stdin is piped")?;
        stdin.write_all(input.as_bytes()).await.with_context(name)?;
        drop(stdin);
        let output = child.wait_with_output().await.with_context(name)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) })
    }

    /// `kubectl apply -f -` of `manifests`.
    pub(crate) async fn apply(&self, manifests: &str) -> Result<Said> {
        self.run_with(&["apply", "-f", "-"], manifests).await
    }

    /// `kubectl create -f -` of `manifests`: no last-applied annotation is left behind.
    pub(crate) async fn create(&self, manifests: &str) -> Result<Said> {
        self.run_with(&["create", "-f", "-"], manifests).await
    }

    /// `kubectl get … -o jsonpath=…`.
    pub(crate) async fn jsonpath(&self, what: &[&str], path: &str) -> Result<String> {
        let form = format!("jsonpath={path}");
        let args: Vec<&str> = ["get"].iter().chain(what).copied().chain(["-o", &form]).collect();
        Ok(self.run(&args).await?.ok()?.stdout)
    }
}
