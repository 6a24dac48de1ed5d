//! A panic over one input is a fault of that input: it is set aside as any other that cannot succeed. Left to itself it
//! would end the process, and again at every start, for the log would hand it the same input.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::ports::{Fault, FaultClass};

/// The future's output, or what it panicked with. What it worked on is behind the seams, and may be used on: there, a
/// call that is cut short has happened wholly or not at all.
pub(crate) async fn caught<T>(context: &'static str, future: impl Future<Output = T>) -> Result<T, Fault> {
    let ended = AssertUnwindSafe(future).catch_unwind().await;
    ended.map_err(|panic| Fault::new(FaultClass::Rejected, context, format!("panicked: {}", message(&*panic))))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
