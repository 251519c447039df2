//! Prepares and removes snapshots on an empty layer stack and prints what one costs.
//!
//! `cargo run --release -p store --example prepare -- <data root> <count>`

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use store::{Store, UnpackLimits};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, count] = &arguments[..] else {
        return Err("usage: prepare <data root> <count>".into());
    };
    let store = Store::open(Path::new(root))?;
    let writer = store.layers().begin()?;
    let layer = writer.unpack(&mut &[0; 1024][..], &UnpackLimits::default())?;
    let diff_id = layer.diff_id;
    layer.commit(&diff_id)?;
    let snapshots = store.snapshots();
    let mut prepares = Vec::new();
    let mut removes = Vec::new();
    for number in 0..count.parse::<usize>()? {
        let key = format!("{number:064}");
        let begin = Instant::now();
        snapshots.prepare(&key, &[diff_id])?;
        prepares.push(begin.elapsed());
        let begin = Instant::now();
        snapshots.remove(&key)?;
        removes.push(begin.elapsed());
        // The pace of starting containers one after the other.
        std::thread::park_timeout(Duration::from_millis(3));
    }
    let [prepare, remove] = [prepares, removes].map(median);
    writeln!(std::io::stdout(), "prepare {prepare:?}, remove {remove:?}")?;
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
