//! Unpacks layers into a fresh store, some at once, and says how long it took: the program to
//! profile, and one half of the comparison with `pigz -dc | tar x`.
//!
//! `cargo run --release -p store --example unpack -- <data root> <at once> <layer>…`

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;
use store::{Store, UnpackLimits};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, at_once, layers @ ..] = &arguments[..] else {
        return Err("usage: unpack <data root> <at once> <layer>…".into());
    };
    let store = Store::open(Path::new(root))?;
    let begin = Instant::now();
    let pending = Mutex::new(layers.iter());
    let at_once: usize = at_once.parse()?;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once)
            .map(|_| scope.spawn(|| work(&store, &pending)))
            .collect();
        for worker in workers {
            worker.join().map_err(|_| "a worker panicked")??;
        }
        Ok::<(), Box<dyn Error + Send + Sync>>(())
    })
    .map_err(|error| error.to_string())?;
    let seconds = begin.elapsed().as_secs_f64();
    writeln!(std::io::stdout(), "{seconds:.3} s")?;
    Ok(())
}

fn work(
    store: &Store,
    pending: &Mutex<std::slice::Iter<'_, String>>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    loop {
        let next = pending.lock().map_err(|_| "a worker panicked")?.next();
        let Some(path) = next else { return Ok(()) };
        let writer = store.layers().begin()?;
        let unpacked = writer.unpack(&mut File::open(path)?, &UnpackLimits::default())?;
        let diff_id = unpacked.diff_id;
        unpacked.commit(&diff_id)?;
    }
}
