//! `portreeve-testbed image`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use portreeve_e2e::{
    assets::Assets,
    image::{catalogue, release},
    preflight::{self, Tier},
    progress::Progress,
    run_dir,
};

/// Options of `image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where the archives go [default: target/testbed/images]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Take the daemons from this directory instead of building them; they must be static
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// Only the project's image, not those of the testbed
    #[arg(long)]
    only_portreeve: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    preflight::check(Tier::Api)?;
    let written = tokio::task::spawn_blocking(move || -> Result<_> {
        let out = arguments.out.unwrap_or_else(|| run_dir::root().join("images"));
        std::fs::create_dir_all(&out)?;
        let binaries = match arguments.binaries {
            Some(dir) => release::in_directory(&dir)?,
            None => release::build(&out.join("build.log"), Progress::Shown)?,
        };
        let mut images = vec![catalogue::portreeve(&binaries)?];
        if !arguments.only_portreeve {
            images.extend(catalogue::testbed(&Assets::ensure(Progress::Shown)?)?);
        }
        Ok(catalogue::write_all(&images, &out, Progress::Shown)?)
    })
    .await??;
    for image in written {
        println!("{}@{} {} bytes {}", image.name, image.digest, image.size, image.path.display());
    }
    Ok(ExitCode::SUCCESS)
}
