//! Pulls from a registry that counts, breaks off, and lies.

use crate::fixtures::{Fixture, gzip, layer, noise};
use crate::support::{Answer, Request, Server, digest};
use crate::{Machine, chain};
use engine::images::{ImageError, ImageFilter, LayerState, PullEvent, RemoveOptions, Removed};
use std::time::Duration;

fn two_layers() -> Fixture {
    Fixture::new(&[layer("one", &noise(1, 400_000)), layer("two", b"small")])
}

fn is_layer(request: &Request, fixture: &Fixture) -> bool {
    let digests = fixture.layers.iter();
    digests
        .map(ToString::to_string)
        .any(|digest| request.path.ends_with(&digest))
}

fn one_layer() -> Fixture {
    Fixture::new(&[layer("one", &noise(1, 400_000))])
}

async fn serve(fixture: &Fixture) -> Server {
    let fixture = fixture.clone();
    Server::start(move |request| fixture.answer(request)).await
}

#[tokio::test]
async fn a_pull_from_beginning_to_end() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let fixture = two_layers();
    let server = serve(&fixture).await;
    let reference = server.reference("app:1");
    let (pulled, events) = machine.pull_as(&reference, None, Default::default()).await;
    let pulled = pulled.unwrap();
    assert!(pulled.newer);
    assert_eq!(pulled.digest, digest(&fixture.manifest));
    let file = machine
        .store
        .layers()
        .path(&pulled.image.layers[0])
        .join("one");
    assert_eq!(std::fs::read(file).unwrap(), noise(1, 400_000));

    // Every layer tells the same story, in the manifest's order.
    assert!(matches!(&events[0], PullEvent::Resolved { repository, .. } if repository == "app"));
    for layer in &fixture.layers {
        let story: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                PullEvent::Layer { digest, state } if digest == layer => Some(state),
                _ => None,
            })
            .collect();
        assert_eq!(story.first(), Some(&&LayerState::Pending));
        assert!(story.contains(&&LayerState::Verifying), "{story:?}");
        assert!(story.contains(&&LayerState::DownloadComplete), "{story:?}");
        assert_eq!(story.last(), Some(&&LayerState::PullComplete));
    }

    // The same again asks one question and fetches nothing.
    let before = server.requests().len();
    assert!(!machine.pull(&reference).await.unwrap().newer);
    let asked: Vec<_> = server.requests()[before..].to_vec();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].method, "HEAD");

    // It is there after a restart, under all its names.
    let machine = machine.reopened();
    let id = pulled.image.id;
    for name in [
        reference.familiar(),
        id.to_string(),
        id.0.short(),
        reference.with_digest(pulled.digest).familiar(),
    ] {
        assert_eq!(machine.images.resolve(&name).unwrap().id, id, "{name}");
    }
    let missing = machine.images.resolve("nothing").unwrap_err();
    assert_eq!(missing.to_string(), "No such image: nothing:latest");
}

#[tokio::test]
async fn two_pulls_at_once_fetch_each_layer_once() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let fixture = two_layers();
    let answers = fixture.clone();
    let server = Server::start(move |request| Answer {
        pause: Duration::from_millis(if is_layer(request, &answers) { 150 } else { 0 }),
        ..answers.answer(request)
    })
    .await;
    let (one, other) = (server.reference("app:1"), server.reference("app:2"));
    let (first, second) = tokio::join!(machine.pull(&one), machine.pull(&other));
    assert_eq!(first.unwrap().image.id, second.unwrap().image.id);
    let fetched = server
        .requests()
        .iter()
        .filter(|r| is_layer(r, &fixture))
        .count();
    assert_eq!(fetched, 2);
    let image = machine.images.resolve(&one.to_string()).unwrap();
    assert_eq!(image.references.len(), 2);
}

#[tokio::test]
async fn a_pull_that_nobody_wants_any_more_ends_and_the_next_goes_on() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let fixture = Fixture::new(&[layer("big", &noise(2, 2_000_000))]);
    let answers = fixture.clone();
    // Half of the layer, then silence, until the second connection.
    let server = Server::start(move |request| {
        let mut answer = answers.answer(request);
        if is_layer(request, &answers) && request.range_start() == 0 {
            let whole = answer.body.len();
            answer = answer.header("Content-Length", whole.to_string());
            answer.body.truncate(whole / 2);
            answer.hold = Duration::from_secs(30);
        }
        answer
    })
    .await;
    let reference = server.reference("app:1");
    let given_up = tokio::time::timeout(Duration::from_millis(200), machine.pull(&reference));
    given_up.await.map(|_| ()).unwrap_err();
    // The transfer notices; what arrived stays, to be gone on with.
    for _ in 0..100 {
        if machine.count("layers/unpacking") == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    machine.assert_nothing_half_made(1);

    machine.pull(&reference).await.unwrap();
    let starts: Vec<_> = server
        .requests()
        .iter()
        .filter(|request| is_layer(request, &fixture))
        .map(Request::range_start)
        .collect();
    assert_eq!(starts[0], 0);
    assert!(starts.iter().skip(1).all(|start| *start > 0), "{starts:?}");
}

#[tokio::test]
async fn a_broken_connection_does_not_break_the_pull() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let fixture = two_layers();
    let answers = fixture.clone();
    let server = Server::start(move |request| Answer {
        cut_after: is_layer(request, &answers).then_some(150_000),
        ..answers.answer(request)
    })
    .await;
    let (pulled, events) = machine
        .pull_as(&server.reference("app:1"), None, Default::default())
        .await;
    pulled.unwrap();
    let retried = events.iter().any(|event| {
        matches!(
            event,
            PullEvent::Layer {
                state: LayerState::Retrying { .. },
                ..
            }
        )
    });
    assert!(retried);
}

/// Pulls what `answer` serves, which must fail with these words and leave nothing.
async fn check_refused(fixture: Fixture, twist: fn(Answer) -> Answer, expected: &str) {
    let Some(machine) = Machine::new() else {
        return;
    };
    let answers = fixture.clone();
    let server = Server::start(move |request| {
        let answer = answers.answer(request);
        if is_layer(request, &answers) {
            twist(answer)
        } else {
            answer
        }
    })
    .await;
    let error = machine.pull(&server.reference("app:1")).await.unwrap_err();
    let shown = chain(&error);
    assert!(shown.contains(expected), "{shown}");
    machine.assert_nothing_half_made(0);
    // The unfinished pull's other blobs go with the next sweep.
    let machine = machine.reopened();
    assert_eq!(machine.count("content/blobs/sha256"), 0);
    assert_eq!(machine.count("layers/sha256"), 0);
}

#[tokio::test]
async fn wrong_bytes_are_refused() {
    let twist = |mut answer: Answer| {
        let middle = answer.body.len() / 2;
        answer.body[middle] ^= 1;
        answer
    };
    let expected = "filesystem layer verification failed for digest sha256:";
    check_refused(one_layer(), twist, expected).await;
}

#[tokio::test]
async fn other_bytes_of_the_same_length_are_refused() {
    let twist = |mut answer: Answer| {
        answer.body.fill(b'x');
        answer
    };
    let expected = "wrong content: expected digest sha256:";
    check_refused(one_layer(), twist, expected).await;
}

#[tokio::test]
async fn a_truncated_layer_is_refused() {
    let twist = |mut answer: Answer| {
        answer.body.truncate(100);
        answer
    };
    check_refused(one_layer(), twist, "registry has 100 bytes").await;
}

#[tokio::test]
async fn a_layer_that_ends_early_is_refused() {
    let whole = layer("file", &noise(3, 100_000));
    let short = gzip(&whole[..50_000]);
    let fixture = Fixture::of(&[short], &[digest(&whole)]);
    check_refused(fixture, |answer| answer, "layer is truncated").await;
}

#[tokio::test]
async fn a_layer_of_another_diff_id_is_refused() {
    let fixture = Fixture::of(&[gzip(&layer("a", b"a"))], &[digest(b"something else")]);
    check_refused(fixture, |answer| answer, "wrong layer: expected diff ID").await;
}

#[tokio::test]
async fn a_layer_that_is_none_is_refused() {
    let blob = gzip(&noise(4, 10_000));
    let fixture = Fixture::of(std::slice::from_ref(&blob), &[digest(b"x")]);
    check_refused(fixture, |answer| answer, "invalid tar header").await;
}

#[tokio::test]
async fn a_manifest_without_its_config_is_no_image() {
    let fixture = Fixture::of(&[gzip(&layer("a", b"a"))], &[]);
    check_refused(fixture, |answer| answer, "is no container image").await;
}

#[tokio::test]
async fn names_come_and_go() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let images = &machine.images;
    let old = Fixture::new(&[layer("base", b"base"), layer("old", b"old")]);
    let new = Fixture::new(&[layer("base", b"base"), layer("new", b"new")]);
    let reference = serve(&old).await.reference("app:1");
    let first = machine.pull(&reference).await.unwrap().image;
    images
        .tag(&first.id.to_string(), &"mine:2".parse().unwrap())
        .await
        .unwrap();

    // A tag names one image: the next owner takes it.
    let second = serve(&new).await.reference("app:1");
    let second = machine.pull(&second).await.unwrap().image;
    images
        .tag(&second.id.to_string(), &reference)
        .await
        .unwrap();
    assert_eq!(
        images.resolve(&reference.to_string()).unwrap().id,
        second.id
    );
    let shared = images.shared_size_bytes(&second);
    assert_eq!(shared, 4);

    let nobody = |_: &model::ImageId| Vec::new();
    let options = RemoveOptions::default();
    // It has a name and a digest in one repository, another name in a second.
    let error = images
        .remove(&first.id.to_string(), options, nobody)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("referenced in multiple repositories"),
        "{error}"
    );
    let id = first.id.to_string();
    let forced = images.remove(&id, RemoveOptions { force: true }, nobody);
    let removed = forced.await.unwrap();
    assert!(
        removed.contains(&Removed::Untagged("mine:2".to_owned())),
        "{removed:?}"
    );
    assert!(
        removed.contains(&Removed::Deleted(first.id.to_string())),
        "{removed:?}"
    );
    let gone = images.resolve(&first.id.to_string()).unwrap_err();
    assert!(matches!(gone, ImageError::NotFound { .. }));
    // The layer that the other image has too is still there.
    assert_eq!(machine.count("layers/sha256"), 2);

    let pruned = images
        .prune(true, &ImageFilter::default(), nobody)
        .await
        .unwrap();
    assert!(pruned.reclaimed_bytes > 0);
    assert_eq!(machine.count("layers/sha256"), 0);
    assert_eq!(machine.count("content/blobs/sha256"), 0);
    assert_eq!(machine.count("records/images"), 0);
}

#[tokio::test]
async fn containers_hold_their_image() {
    use engine::images::ImageUser;
    let Some(machine) = Machine::new() else {
        return;
    };
    let images = &machine.images;
    let reference = serve(&two_layers()).await.reference("app:1");
    let image = machine.pull(&reference).await.unwrap().image;
    let (name, id) = (reference.familiar(), image.id.to_string());
    let container = model::ContainerId::from_random([7; 32]);
    let user = |running| {
        let container = container.clone();
        move |_: &model::ImageId| {
            vec![ImageUser {
                container: container.clone(),
                running,
            }]
        }
    };
    let soft = RemoveOptions::default();
    let force = RemoveOptions { force: true };
    let said = async |name: &str, options, running| {
        let removed = images.remove(name, options, user(running)).await;
        removed.unwrap_err().to_string()
    };
    assert!(
        said(&name, soft, false)
            .await
            .contains("(must force) - container")
    );
    assert!(
        said(&id, soft, false)
            .await
            .contains("(must be forced) - image is being used by stopped")
    );
    assert!(
        said(&id, force, true)
            .await
            .contains("(cannot be forced) - image is being used by running")
    );
    let pruned = images
        .prune(true, &ImageFilter::default(), user(false))
        .await
        .unwrap();
    assert_eq!(pruned.removed, []);

    // Layers beneath a container's root outlive the image.
    let snapshots = machine.store.snapshots();
    snapshots.prepare("c", &image.layers).unwrap();
    images.remove(&id, force, user(false)).await.unwrap();
    assert_eq!(machine.count("layers/sha256"), 2);
    snapshots.remove("c").unwrap();
    images
        .prune(true, &ImageFilter::default(), user(false))
        .await
        .unwrap();
    assert_eq!(machine.count("layers/sha256"), 0);
}

#[tokio::test]
async fn an_archive_becomes_an_image() {
    use engine::images::ImportOptions;
    let Some(machine) = Machine::new() else {
        return;
    };
    let import = async |bytes: Vec<u8>, options: ImportOptions| {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let send = async {
            for chunk in bytes.chunks(1000) {
                if sender.send(Ok(chunk.to_vec().into())).await.is_err() {
                    break;
                }
            }
            drop(sender);
        };
        tokio::join!(machine.images.import(receiver, options), send).0
    };
    let options = ImportOptions {
        reference: Some("made:here".parse().unwrap()),
        changes: vec!["CMD [\"sh\"]".to_owned(), "ENV A=b".to_owned()],
        ..ImportOptions::default()
    };
    let archive = gzip(&layer("etc/hello", b"hello"));
    let image = import(archive, options).await.unwrap();
    assert_eq!(image.config.config.env, ["A=b"]);
    let found = machine.images.resolve("made:here").unwrap();
    let file = machine
        .store
        .layers()
        .path(&found.layers[0])
        .join("etc/hello");
    assert_eq!(std::fs::read(file).unwrap(), b"hello");

    let error = import(noise(5, 5000), ImportOptions::default())
        .await
        .unwrap_err();
    assert!(
        chain(&error).contains("invalid tar header"),
        "{}",
        chain(&error)
    );
    assert_eq!(machine.count("layers/unpacking"), 0);
}
