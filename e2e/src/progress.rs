//! What a person sees while the testbed works: one line per step with its time, and a counter for long ones.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Where progress goes. Quiet in tests, lines on stderr for the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is written; errors still carry their story.
    Quiet,
    /// Lines, and a live counter when stderr is a terminal.
    Shown,
}

impl Progress {
    /// One line.
    pub fn say(self, line: &str) {
        if self == Self::Shown {
            eprintln!("{line}");
        }
    }

    /// Starts a step; its line is written when it ends, with the seconds it took.
    pub fn step(self, name: impl Into<String>) -> Step {
        let name = name.into();
        let bar = match self {
            Self::Quiet => ProgressBar::hidden(),
            Self::Shown => {
                let bar = ProgressBar::new_spinner();
                bar.set_style(
                    ProgressStyle::with_template("{spinner} {msg} {elapsed}")
                        .expect("invariant: the template is a constant"),
                );
                bar.enable_steady_tick(Duration::from_millis(120));
                bar
            }
        };
        bar.set_message(name.clone());
        // A log has no spinner; without this line it would be silent for as long as the step takes.
        if !std::io::stderr().is_terminal() {
            self.say(&format!("     …    {name}"));
        }
        Step { name, progress: self, began: Instant::now(), bar }
    }
}

/// A step under way.
#[derive(Debug)]
pub struct Step {
    name: String,
    progress: Progress,
    began: Instant,
    bar: ProgressBar,
}

impl Step {
    /// Shows how far it is, e.g. `128 packages`.
    pub fn note(&self, note: &str) {
        self.bar.set_message(format!("{}: {note}", self.name));
    }

    /// Ends the step and returns how long it took.
    pub fn done(self) -> Duration {
        self.bar.finish_and_clear();
        let took = self.began.elapsed();
        self.progress.say(&format!("{:>7.1}s  {}", took.as_secs_f64(), self.name));
        took
    }
}
