//! `init`: creates what the service needs and does not exist yet, and records the set of stores.

use chunk_sync_engine::ports::Installed;
use chunk_sync_model::Target;
use clap::Args;

use super::verify::Projection;
use super::{Ended, Failure, output};
use crate::config::Config;
use crate::{telemetry, wiring};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print the statements that create what is missing, without running them.
    #[arg(long)]
    dry_run: bool,
    /// Remove this store from the installation, and drop its outbox. The content of the store stays. Its URL must not be set
    /// in the configuration any more.
    #[arg(long, value_name = "STORE", value_enum, conflicts_with = "dry_run")]
    without: Vec<Projection>,
    /// Accept the table that is there now, after a restore or in place of another table. Chunks are deleted again because
    /// their row is absent, and every later version is above those assigned before.
    #[arg(long, conflicts_with = "dry_run")]
    adopt: bool,
}

pub(super) async fn execute(config: &Config, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    // Before anything is created: afterwards nothing is missing.
    let (statements, mut installed) = (wiring::statements(config).await?, None);
    if !arguments.dry_run {
        // The creation of the slot may wait for other sessions, which a warning names.
        telemetry::init_logs(&config.log);
        let without: Vec<Target> = arguments.without.iter().map(|store| Target::from(*store)).collect();
        installed = Some(wiring::install(config, &without, arguments.adopt).await?);
    }
    if json {
        output::json(&serde_json::json!({
            "dry_run": arguments.dry_run, "statements": statements, "rights": wiring::rights(config).await?,
            "installation": installed,
        }))?;
        return Ok(Ended::Fine);
    }
    if arguments.dry_run {
        if statements.is_empty() {
            output::line("-- nothing is missing in any server")?;
        }
        for (store, statement) in &statements {
            output::line(format_args!("-- {store}\n{statement};"))?;
        }
        for (store, statement) in wiring::rights(config).await? {
            output::line(format_args!(
                "-- {store}: the rights of the service's user, for an administrator\n{statement};"
            ))?;
        }
    } else if let Some(Installed { id, version, stores, filling, .. }) = &installed {
        output::line(format_args!("ready: {stores}; set {version} of installation {id}"))?;
        for target in filling {
            output::line(format_args!(
                "{target} is new; `chunk-sync run` fills it, and `chunk-sync status` shows the progress"
            ))?;
        }
    }
    Ok(Ended::Fine)
}
