//! The cases, each against a real container.

use super::fixture::{Client, Fixture, logged, process};
use engine::shims::{
    Adopted, ExecStart, ExitRecord, IoSettings, LogTarget, Shim, ShimError, Shims,
};
use model::Signal;
use runtime::seccomp::{Architecture, compile, default_policy};
use serde_json::json;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::sync::watch;

type Case = for<'a> fn(&'a Fixture) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        vec![$((stringify!($name), (|fixture| Box::pin($name(fixture))) as Case)),*]
    };
}

/// Every case with its name.
pub(crate) fn all() -> Vec<(&'static str, Case)> {
    cases![
        streams_are_kept_apart_and_logged,
        a_terminal_is_raw_and_has_its_size,
        no_output_is_lost,
        a_slow_client_holds_the_container_and_loses_nothing,
        the_end_of_stdin_ends_stdin_once,
        stdin_that_is_not_once_outlives_its_client,
        detach_keys_leave_it_running,
        signals_end_it,
        a_failed_launch_leaves_nothing,
        execs_run_beside_it,
        execs_have_terminals,
        a_container_cannot_hold_up_its_shim,
        it_outlives_the_daemon,
        its_end_is_known_to_the_next_daemon,
        the_pool_is_filled_and_emptied,
        it_keeps_nothing_inherited,
        a_leaked_holder_does_not_hold_up_the_exit,
        a_leaked_writer_does_not_fill_the_memory,
        logs_are_rotated,
        the_default_policy_holds_inside,
        a_shared_process_namespace_is_cleared,
        it_is_fast_and_small,
    ]
}

async fn ended(mut exit: watch::Receiver<Option<ExitRecord>>) -> ExitRecord {
    exit.wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap()
}

fn with_stdin(once: bool) -> IoSettings {
    IoSettings {
        open_stdin: true,
        stdin_once: once,
        ..IoSettings::default()
    }
}

fn terminal() -> IoSettings {
    IoSettings {
        tty: true,
        open_stdin: true,
        stdin_once: true,
        console_size: Some((33, 111)),
    }
}

async fn streams_are_kept_apart_and_logged(fixture: &Fixture) {
    let (shims, place) = (fixture.shims(0), fixture.place());
    let mut request = fixture.request(&place, &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let (mut client, attachment) = Client::connect(false, "");
    request.attach.push(attachment);
    let shim = shims.launch(&place.id, request).await.unwrap();
    let (out, err) = client.frames().await;
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    let record = ended(shim.exit()).await;
    assert_eq!((record.exit_code, record.signal), (7, None));
    assert_eq!(logged(&place.log, "stdout"), "out\n");
    assert_eq!(logged(&place.log, "stderr"), "err\n");
    shims.forget(&place.id).unwrap();
}

async fn a_terminal_is_raw_and_has_its_size(fixture: &Fixture) {
    let (shims, place) = (fixture.shims(1), fixture.place());
    let mut request = fixture.request(&place, &["sh"]);
    request.io = terminal();
    let (mut client, attachment) = Client::connect(true, "");
    request.attach.push(attachment);
    let shim = shims.launch(&place.id, request).await.unwrap();
    client.type_in("stty size\n").await;
    client.until("33 111").await;
    shim.resize(24, 80).await.unwrap();
    client
        .type_in("stty size; tty=$(readlink /proc/self/fd/0 2>&1)\n")
        .await;
    client.until("24 80").await;
    client.type_in("exit 3\n").await;
    client.rest().await;
    assert_eq!(ended(shim.exit()).await.exit_code, 3);
    assert!(logged(&place.log, "stdout").contains("33 111\r\n"));
}

async fn no_output_is_lost(fixture: &Fixture) {
    let shims = fixture.shims(1);
    for round in 0..5 {
        let place = fixture.place();
        let script = "yes 0123456789abcde | head -c 1048576; echo end >&2";
        let mut request = fixture.request(&place, &["sh", "-c", script]);
        request.io.tty = round == 4;
        let (mut client, attachment) = Client::connect(false, "");
        request.attach.push(attachment);
        let shim = shims.launch(&place.id, request).await.unwrap();
        if round == 4 {
            let text = client.rest().await;
            assert_eq!(text.len(), 1_048_576 + 65_536 + "end\r\n".len());
        } else {
            let (out, err) = client.frames().await;
            assert_eq!((out.len(), err.as_str()), (1_048_576, "end\n"));
            assert_eq!(logged(&place.log, "stdout"), out);
        }
        assert_eq!(ended(shim.exit()).await.exit_code, 0);
    }
}

async fn a_slow_client_holds_the_container_and_loses_nothing(fixture: &Fixture) {
    let (shims, place) = (fixture.shims(0), fixture.place());
    let script = "seq 1 300000 && echo done >&2";
    let mut request = fixture.request(&place, &["sh", "-c", script]);
    let (mut slow, attachment) = Client::connect(false, "");
    request.attach.push(attachment);
    let shim = shims.launch(&place.id, request).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(shim.exit().borrow().is_none(), "it was held");
    let used = memory_kb(shim.pid(), "Anonymous");
    assert!(used < 512, "{used} KB while a client is slow");
    let (out, err) = slow.frames().await;
    assert_eq!(out.lines().count(), 300_000);
    assert!(out.ends_with("299999\n300000\n"));
    assert_eq!(err, "done\n");
    assert_eq!(ended(shim.exit()).await.exit_code, 0);
}

async fn the_end_of_stdin_ends_stdin_once(fixture: &Fixture) {
    let (shims, place) = (fixture.shims(0), fixture.place());
    let mut request = fixture.request(&place, &["cat"]);
    request.io = with_stdin(true);
    let (mut client, mut attachment) = Client::connect(true, "");
    attachment.read_ahead = b"ahead ".to_vec();
    request.attach.push(attachment);
    let shim = shims.launch(&place.id, request).await.unwrap();
    let large = "x".repeat(300_000);
    client.type_in("hi ").await;
    let (mut reader, mut writer) = client.stream.into_split();
    let write = async {
        tokio::io::AsyncWriteExt::write_all(&mut writer, large.as_bytes())
            .await
            .unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut writer)
            .await
            .unwrap();
    };
    let mut bytes = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut bytes);
    let ((), read) = tokio::join!(write, read);
    read.unwrap();
    assert!(bytes.len() > 300_000);
    assert_eq!(ended(shim.exit()).await.exit_code, 0);
    assert_eq!(logged(&place.log, "stdout"), format!("ahead hi {large}"));
}

async fn stdin_that_is_not_once_outlives_its_client(fixture: &Fixture) {
    let (shims, place) = (fixture.shims(0), fixture.place());
    let mut request = fixture.request(&place, &["cat"]);
    request.io = with_stdin(false);
    let shim = shims.launch(&place.id, request).await.unwrap();
    for text in ["one\n", "two\n"] {
        let (mut client, attachment) = Client::connect(true, "");
        shim.attach(attachment).await.unwrap();
        client.type_in(text).await;
        client.until(text).await;
        // As docker: the end of stdin ends this attachment.
        client.end_stdin().await;
        client.rest().await;
    }
    shim.close_stdin().await.unwrap();
    assert_eq!(ended(shim.exit()).await.exit_code, 0);
    assert_eq!(logged(&place.log, "stdout"), "one\ntwo\n");
}

async fn detach_keys_leave_it_running(fixture: &Fixture) {
    let (shims, place) = (fixture.shims(0), fixture.place());
    let mut request = fixture.request(&place, &["sh"]);
    request.io = terminal();
    let shim = shims.launch(&place.id, request).await.unwrap();
    let mut detached = shim.detached();
    for (keys, typed) in [("", "\x10\x11"), ("ctrl-a,b", "\x01b")] {
        let (mut client, attachment) = Client::connect(true, keys);
        let (mut other, beside) = Client::connect(false, "");
        shim.attach(attachment).await.unwrap();
        shim.attach(beside).await.unwrap();
        client.type_in("echo a$((1+1))b\n").await;
        client.until("a2b").await;
        other.until("a2b").await;
        client.type_in(typed).await;
        client.rest().await;
        assert_eq!(detached.recv().await, Some(None));
        assert!(shim.exit().borrow().is_none());
    }
    shim.signal(Signal::KILL).await.unwrap();
    assert_eq!(ended(shim.exit()).await.exit_code, 137);
}

async fn signals_end_it(fixture: &Fixture) {
    let (shims, place) = (fixture.shims(0), fixture.place());
    let script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let mut request = fixture.request(&place, &["sh", "-c", script]);
    let (mut client, attachment) = Client::connect(false, "");
    request.attach.push(attachment);
    let shim = shims.launch(&place.id, request).await.unwrap();
    client.until("ready").await;
    shim.signal(Signal::TERM).await.unwrap();
    client.until("caught").await;
    assert_eq!(ended(shim.exit()).await.exit_code, 5);
    assert!(matches!(
        shim.signal(Signal::TERM).await,
        Err(ShimError::NoSuchProcess | ShimError::Gone)
    ));
}

async fn a_failed_launch_leaves_nothing(fixture: &Fixture) {
    for pool in [0, 1] {
        let shims = fixture.shims(pool);
        let place = fixture.place();
        let mut request = fixture.request(&place, &["no-such-program"]);
        let (mut client, attachment) = Client::connect(false, "");
        request.attach.push(attachment);
        let error = shims.launch(&place.id, request).await.unwrap_err();
        let ShimError::Launch(error) = error else {
            panic!("{error:?}");
        };
        assert_eq!(error.exit_code, 127);
        assert!(error.message.contains("executable file not found in $PATH"));
        client.rest().await;
        assert!(matches!(shims.adopt(&place.id).await, Adopted::Gone));

        let place = fixture.place();
        filled(&shims, pool).await;
        let mut request = fixture.request(&place, &["true"]);
        request.log = LogTarget::JsonFile {
            path: "/proc/no-such/log".into(),
            max_size_bytes: None,
            max_files: 1,
        };
        let error = shims.launch(&place.id, request).await.unwrap_err();
        assert!(error.to_string().contains("cannot open log"), "{error}");
    }
}

async fn start_sleeper(fixture: &Fixture, shims: &Shims) -> Shim {
    let place = fixture.place();
    let request = fixture.request(&place, &["sleep", "1000"]);
    shims.launch(&place.id, request).await.unwrap()
}

fn exec(name: &str, args: &[&str], io: IoSettings) -> ExecStart {
    ExecStart {
        exec: name.to_owned(),
        request: serde_json::from_value(json!({"process": process(args)})).unwrap(),
        io,
        attach: Vec::new(),
    }
}

async fn execs_run_beside_it(fixture: &Fixture) {
    let shims = fixture.shims(0);
    let shim = start_sleeper(fixture, &shims).await;
    let mut running = Vec::new();
    for number in 0..4 {
        let script = format!("read line; echo $line-{number}; exit {number}");
        let mut start = exec(
            &format!("e{number}"),
            &["sh", "-c", &script],
            with_stdin(true),
        );
        let (client, attachment) = Client::connect(true, "");
        start.attach.push(attachment);
        running.push((client, shim.exec(start).await.unwrap()));
    }
    for (number, (client, exec)) in running.iter_mut().enumerate() {
        client.type_in("x\n").await;
        let (out, _) = client.frames().await;
        assert_eq!(out, format!("x-{number}\n"));
        // The stream ends only after the exit code is known.
        let record = exec.exit().borrow().clone().unwrap();
        assert_eq!(usize::try_from(record.exit_code), Ok(number));
    }
    let missing = shim.exec(exec("bad", &["nothing"], IoSettings::default()));
    let Err(ShimError::Launch(error)) = missing.await else {
        panic!("it does not exist");
    };
    assert_eq!(error.exit_code, 127);
    shim.signal(Signal::KILL).await.unwrap();
    assert_eq!(ended(shim.exit()).await.exit_code, 137);
}

async fn execs_have_terminals(fixture: &Fixture) {
    let shims = fixture.shims(0);
    let shim = start_sleeper(fixture, &shims).await;
    let mut start = exec("t", &["sh"], terminal());
    let (mut client, attachment) = Client::connect(true, "");
    start.attach.push(attachment);
    let shell = shim.exec(start).await.unwrap();
    shell.resize(20, 70).await.unwrap();
    client.type_in("stty size\n").await;
    client.until("20 70").await;
    // An exec process does not outlive its container.
    shim.signal(Signal::KILL).await.unwrap();
    client.rest().await;
    assert_eq!(ended(shim.exit()).await.exit_code, 137);
}

/// It stops every process that joins it, if it can before that has executed its program.
async fn a_container_cannot_hold_up_its_shim(fixture: &Fixture) {
    let (shims, place) = (fixture.shims(0), fixture.place());
    let script = "echo ready; while :; do kill -STOP -1; done 2>/dev/null";
    let mut request = fixture.request(&place, &["sh", "-c", script]);
    let (mut client, attachment) = Client::connect(false, "");
    request.attach.push(attachment);
    let shim = shims.launch(&place.id, request).await.unwrap();
    client.until("ready").await;
    for number in 0..20 {
        let start = exec(&number.to_string(), &["true"], IoSettings::default());
        if let Err(ShimError::Launch(error)) = shim.exec(start).await {
            println!("exec {number}: {error}");
            break;
        }
    }
    shim.signal(Signal::KILL).await.unwrap();
    assert_eq!(ended(shim.exit()).await.exit_code, 137);
}

async fn it_outlives_the_daemon(fixture: &Fixture) {
    let (shims, place) = (fixture.shims(1), fixture.place());
    let mut request = fixture.request(&place, &["sh"]);
    request.io = terminal();
    let (mut client, attachment) = Client::connect(true, "");
    request.attach.push(attachment);
    let shim = shims.launch(&place.id, request).await.unwrap();
    let pid = shim.pid();
    let exec_io = IoSettings::default();
    shim.exec(exec("beside", &["sleep", "1000"], exec_io))
        .await
        .unwrap();
    shim.disconnect();
    drop((shim, shims));

    // Nobody listens, and it goes on for its client.
    client.type_in("echo alone$((1+1))\n").await;
    client.until("alone2").await;
    let shims = fixture.shims(0);
    let Adopted::Running(shim, execs) = shims.adopt(&place.id).await else {
        panic!("it runs");
    };
    assert_eq!(shim.pid(), pid);
    assert_eq!(execs.len(), 1);
    assert_eq!(execs[0].exec(), "beside");
    execs[0].signal(Signal::KILL).await.unwrap();
    assert_eq!(ended(execs[0].exit()).await.exit_code, 137);
    let (mut second, attachment) = Client::connect(true, "");
    shim.attach(attachment).await.unwrap();
    second.type_in("echo again$((1+2)); exit 9\n").await;
    second.until("again3").await;
    assert!(client.rest().await.contains("again3"));
    assert_eq!(ended(shim.exit()).await.exit_code, 9);
    assert!(logged(&place.log, "stdout").contains("alone2"));
}

async fn its_end_is_known_to_the_next_daemon(fixture: &Fixture) {
    let (shims, place) = (fixture.shims(0), fixture.place());
    let mut request = fixture.request(&place, &["cat"]);
    request.io = with_stdin(true);
    let (mut client, attachment) = Client::connect(true, "");
    request.attach.push(attachment);
    let shim = shims.launch(&place.id, request).await.unwrap();
    shim.disconnect();
    drop((shim, shims));
    client.type_in("last words").await;
    client.end_stdin().await;
    let (out, _) = client.frames().await;
    assert_eq!(out, "last words");
    let shims = fixture.shims(0);
    let Adopted::Exited(record) = shims.adopt(&place.id).await else {
        panic!("it has ended");
    };
    assert_eq!(record.exit_code, 0);
    assert_eq!(logged(&place.log, "stdout"), "last words");
    shims.forget(&place.id).unwrap();
    assert!(matches!(shims.adopt(&place.id).await, Adopted::Gone));
}

async fn filled(shims: &Shims, count: usize) {
    while shims.ready() != count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn the_pool_is_filled_and_emptied(fixture: &Fixture) {
    let shims = fixture.shims(2);
    filled(&shims, 2).await;
    for _ in 0..3 {
        let place = fixture.place();
        let request = fixture.request(&place, &["true"]);
        let shim = shims.launch(&place.id, request).await.unwrap();
        assert_eq!(ended(shim.exit()).await.exit_code, 0);
        filled(&shims, 2).await;
    }
    // A dead one is noticed and replaced.
    let own = i32::try_from(std::process::id()).unwrap();
    let before = children(own);
    assert_eq!(before.len(), 2);
    sys::process::kill(before[0], 9).unwrap();
    while children(own).contains(&before[0]) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    filled(&shims, 2).await;
    assert_ne!(children(own), before);
    // With the last handle they end; the fixture checks that nothing is left.
}

async fn it_keeps_nothing_inherited(fixture: &Fixture) {
    let host = std::fs::File::open("/usr").unwrap();
    rustix::io::fcntl_setfd(&host, rustix::io::FdFlags::empty()).unwrap();
    let shims = fixture.shims(1);
    filled(&shims, 1).await;
    let own = i32::try_from(std::process::id()).unwrap();
    for shim in children(own) {
        for process in [vec![shim], children(shim)].concat() {
            for entry in std::fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
                let entry = entry.unwrap().path();
                let leads_to = std::fs::read_link(&entry).unwrap();
                assert_ne!(leads_to.to_str(), Some("/usr"), "{}", entry.display());
            }
        }
    }
}

async fn a_leaked_holder_does_not_hold_up_the_exit(fixture: &Fixture) {
    let shims = fixture.shims(0);
    let shim = start_sleeper(fixture, &shims).await;
    let script = "sleep 1000 & echo started";
    let mut start = exec("leak", &["sh", "-c", script], IoSettings::default());
    let (mut client, attachment) = Client::connect(false, "");
    start.attach.push(attachment);
    let leak = shim.exec(start).await.unwrap();
    let (out, _) = client.frames().await;
    assert_eq!(out, "started\n");
    assert_eq!(ended(leak.exit()).await.exit_code, 0);
    shim.signal(Signal::KILL).await.unwrap();
    ended(shim.exit()).await;
}

async fn a_leaked_writer_does_not_fill_the_memory(fixture: &Fixture) {
    let shims = fixture.shims(0);
    let shim = start_sleeper(fixture, &shims).await;
    let mut start = exec("leak", &["sh", "-c", "yes & exit 6"], IoSettings::default());
    let (mut slow, attachment) = Client::connect(false, "");
    start.attach.push(attachment);
    let leak = shim.exec(start).await.unwrap();
    assert_eq!(ended(leak.exit()).await.exit_code, 6);
    let used = memory_kb(shim.pid(), "Anonymous");
    assert!(used < 12 << 10, "{used} KB while a client is slow");
    let (out, _) = slow.frames().await;
    assert!(out.len() > 64 << 10);
    shim.signal(Signal::KILL).await.unwrap();
    ended(shim.exit()).await;
}

async fn logs_are_rotated(fixture: &Fixture) {
    let (shims, place) = (fixture.shims(0), fixture.place());
    let mut request = fixture.request(&place, &["seq", "1", "1000"]);
    request.log = LogTarget::JsonFile {
        path: place.log.clone(),
        max_size_bytes: Some(10_000),
        max_files: 3,
    };
    let shim = shims.launch(&place.id, request).await.unwrap();
    ended(shim.exit()).await;
    let sizes: Vec<u64> = ["", ".1", ".2", ".3"]
        .iter()
        .map_while(|suffix| {
            let path = format!("{}{suffix}", place.log.display());
            Some(std::fs::metadata(path).ok()?.len())
        })
        .collect();
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|size| *size < 10_200));
    assert!(logged(&place.log, "stdout").ends_with("1000\n"));
}

async fn the_default_policy_holds_inside(fixture: &Fixture) {
    let (shims, place) = (fixture.shims(0), fixture.place());
    let script = "grep Seccomp: /proc/self/status; unshare -U true; echo user namespace: $?; \
                  echo works | cat";
    let mut request = fixture.request(&place, &["sh", "-c", script]);
    let policy = default_policy(Architecture::NATIVE, &BTreeSet::new());
    request.launch.seccomp = Some(compile(&policy).unwrap());
    let (mut client, attachment) = Client::connect(false, "");
    request.attach.push(attachment);
    shims.launch(&place.id, request).await.unwrap();
    let (out, err) = client.frames().await;
    assert_eq!(out, "Seccomp:\t2\nuser namespace: 1\nworks\n");
    assert!(err.contains("Operation not permitted"), "{err}");
}

/// What an init process leaves behind in the host's process namespace ends with it, and is reaped.
async fn a_shared_process_namespace_is_cleared(fixture: &Fixture) {
    let (shims, place) = (fixture.shims(1), fixture.place());
    filled(&shims, 1).await;
    let script = "(sleep 1000 & sleep 1001 >/dev/null 2>&1 &) ; exit 4";
    let mut request = fixture.request(&place, &["sh", "-c", script]);
    let mut spec = serde_json::to_value(&request.launch.spec).unwrap();
    let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    request.launch.spec = serde_json::from_value(spec).unwrap();
    let shim = shims.launch(&place.id, request).await.unwrap();
    assert_eq!(shims.ready(), 1, "a ready one does not fit");
    assert_eq!(ended(shim.exit()).await.exit_code, 4);
    // That nothing is left the fixture checks.
}

/// Bounds with much room, so that only a mistake breaks them; the figures are printed.
async fn it_is_fast_and_small(fixture: &Fixture) {
    let shims = fixture.shims(1);
    let mut starts = Vec::new();
    let mut ends = Vec::new();
    for _ in 0..20 {
        filled(&shims, 1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let place = fixture.place();
        let request = fixture.request(&place, &["true"]);
        let before = Instant::now();
        let shim = shims.launch(&place.id, request).await.unwrap();
        starts.push(before.elapsed());
        ended(shim.exit()).await;
        ends.push(before.elapsed());
    }
    starts.sort();
    ends.sort();
    let shim = start_sleeper(fixture, &shims).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let private = memory_kb(shim.pid(), "Private_");
    // Pages of this very program count as private too while nobody else has touched them.
    let own = memory_kb(shim.pid(), "Anonymous");
    println!(
        "launch {:?}, launch to exit {:?} (medians); {private} KB private, {own} KB its own",
        starts[10], ends[10]
    );
    assert!(own <= 256, "{own} KB");
    shim.signal(Signal::KILL).await.unwrap();
    ended(shim.exit()).await;
}

/// A field of the memory summary of the shim that is the parent of `pid`, in KB; the sum of those
/// whose name begins so.
fn memory_kb(pid: i32, field: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let parent = rest.split(' ').nth(1).unwrap();
    let smaps = std::fs::read_to_string(format!("/proc/{parent}/smaps_rollup")).unwrap();
    smaps
        .lines()
        .filter(|line| line.starts_with(field))
        .map(|line| {
            let mut words = line.split_whitespace();
            words.nth(1).unwrap().parse::<u64>().unwrap()
        })
        .sum()
}

fn children(of: i32) -> Vec<i32> {
    let path = format!("/proc/{of}/task/{of}/children");
    std::fs::read_to_string(path)
        .unwrap()
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}
