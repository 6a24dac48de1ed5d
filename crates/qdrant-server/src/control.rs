//! Commands from the test that started the server, one per line on standard input.

use std::io::{self, BufRead};
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::gate::{Gate, Held};
use crate::report;

/// Executes the commands of standard input until it is closed, then releases an update that is still held.
///
/// # Errors
/// An unknown command, or a failed write of the answer to standard output.
pub(crate) async fn obey(gate: Arc<Gate>) -> io::Result<()> {
    let mut commands = lines();
    let mut held = None;
    while let Some(command) = commands.recv().await {
        match command.as_str() {
            "hold" => {
                held = Some(hold(&gate));
                report("holding")?;
            }
            "release" => {
                held = None;
                report("released")?;
            }
            other => return Err(io::Error::other(format!("unknown command `{other}`; use `hold` or `release`"))),
        }
    }
    drop(held);
    Ok(())
}

/// Holds the next update, and reports when it has arrived.
fn hold(gate: &Gate) -> Held {
    let mut held = gate.hold_next();
    let arrived = held.arrived();
    tokio::spawn(async move {
        if arrived.await.is_ok() {
            // The test may have ended and closed the pipe.
            let _ = report("held");
        }
    });
    held
}

/// The lines of standard input. The reading thread ends with the process, because a read cannot be interrupted.
fn lines() -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
