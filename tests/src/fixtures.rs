//! The images that the tests' registry holds, and what is special in each.
//!
//! | repository | what it is |
//! | --- | --- |
//! | `library/busybox` | Debian's static busybox with its applets as links |
//! | `library/debian:bookworm`, `library/ubuntu:latest` | a real Debian (the machine can build no Ubuntu: the name is what counts) |
//! | `test/layers`, `-zstd`, `-plain` | five layers: whiteouts, opaque directories, links, xattrs, devices, names, times, owners |
//! | `test/zstd`, `test/plain` | busybox with a zstd layer, a bare tar |
//! | `test/index` | two platforms, told apart by `/platform` |
//! | `docker/schema2`, `docker/list` | an image and an index in docker's own media types |
//! | `test/config` | a config with every field set |
//! | `test/big` | a few megabytes in four layers that compress badly, for broken and slow connections |
//! | `hostile/*` | layers that try to get out of their root |

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::layout::{Attributes, Compression, Image, LayerTar, Layout, compress};

/// `cap_net_raw+ep` as the kernel stores it (`security.capability`, revision 2).
pub const CAP_NET_RAW: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Writes every image into one layout; `debian` is the tar of a Debian root.
pub fn write(root: &Path, debian: &[u8]) {
    let busybox = busybox_tar();
    let mut layout = Layout::create(root);
    let plain_busybox = || Image::new().layer(&busybox, Compression::Gzip);
    layout.add("library/busybox:latest", &plain_busybox());
    let debian = Image::new()
        .layer(debian, Compression::Gzip)
        .config(json!({"Cmd": ["bash"], "Env": [PATH]}));
    layout.add("library/debian:bookworm", &debian);
    layout.add("library/ubuntu:latest", &debian);
    for (name, compression) in [
        ("test/layers:latest", Compression::Gzip),
        ("test/layers-zstd:latest", Compression::Zstd),
        ("test/layers-plain:latest", Compression::None),
    ] {
        layout.add(name, &layers(&busybox, compression));
    }
    layout.add(
        "test/zstd:latest",
        &Image::new().layer(&busybox, Compression::Zstd),
    );
    layout.add(
        "test/plain:latest",
        &Image::new().layer(&busybox, Compression::None),
    );
    layout.add("docker/schema2:latest", &plain_busybox());
    let platforms = [
        on_platform(&busybox, "arm64").architecture("arm64"),
        on_platform(&busybox, "amd64"),
    ];
    layout.add_index("test/index:latest", &platforms);
    layout.add_index("docker/list:latest", &platforms);
    layout.add("test/config:latest", &configured(&busybox));
    layout.add("test/big:latest", &big(&busybox));
    hostile(&busybox, &mut layout);
    layout.finish();
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn busybox_tar() -> Vec<u8> {
    let program = fs::read("/bin/busybox").expect("busybox-static is installed");
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
    let mut tar = LayerTar::default();
    tar.dir("bin").program("bin/busybox", &program);
    // Unpackers apply a link's own attributes to the file that it names.
    tar.with(Attributes {
        mode: 0o755,
        ..Attributes::default()
    });
    for applet in String::from_utf8(applets.stdout).unwrap().lines() {
        if applet != "busybox" {
            tar.hardlink(&format!("bin/{applet}"), "bin/busybox");
        }
    }
    tar.with(Attributes::default()).dir("etc")
        .file(
            "etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\n\
              alice:x:1000:1000:Alice:/home/alice:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        )
        .file(
            "etc/group",
            b"root:x:0:\ndaemon:x:1:\nstaff:x:50:alice\nalice:x:1000:\nextra:x:2000:alice\nnogroup:x:65534:\n",
        )
        .dir("home")
        .dir("root")
        .dir("usr")
        .dir("var")
        .symlink("sbin", "bin");
    tar.with(Attributes {
        uid: 1000,
        gid: 1000,
        ..Attributes::default()
    })
    .dir("home/alice");
    tar.with(Attributes {
        mode: 0o1777,
        ..Attributes::default()
    })
    .dir("tmp");
    tar.finish()
}

fn on_platform(busybox: &[u8], architecture: &str) -> Image {
    let mut tar = LayerTar::default();
    tar.file("platform", architecture.as_bytes());
    Image::new()
        .layer(busybox, Compression::Gzip)
        .layer(&tar.finish(), Compression::Gzip)
}

fn configured(busybox: &[u8]) -> Image {
    let mut tar = LayerTar::default();
    tar.dir("data").file("data/from-image", b"seed");
    Image::new()
        .layer(busybox, Compression::Gzip)
        .layer(&tar.finish(), Compression::Gzip)
        .config(json!({
            "Entrypoint": ["/bin/echo", "entry"],
            "Cmd": ["default", "arguments"],
            "Env": [PATH, "FROM_IMAGE=yes", "OVERRIDE=image"],
            "User": "alice",
            "WorkingDir": "/home/alice/work",
            "Labels": {"from": "image", "both": "image"},
            "StopSignal": "SIGUSR1",
            "ExposedPorts": {"80/tcp": {}},
        }))
}

/// Five layers with everything that an unpacker can get wrong.
fn layers(busybox: &[u8], compression: Compression) -> Image {
    let long = format!("long/{}/{}", "d".repeat(120), "f".repeat(200));
    let mut one = LayerTar::default();
    one.dir("kept")
        .file("kept/file", b"one")
        .dir("removed")
        .file("removed/file", b"one")
        .dir("hidden")
        .file("hidden/below", b"one")
        .dir("hidden/tree")
        .file("hidden/tree/leaf", b"one")
        .dir("becomes-file")
        .file("becomes-file/inside", b"one")
        .file("becomes-dir", b"one")
        .dir("long")
        .dir(&format!("long/{}", "d".repeat(120)))
        .file(&long, b"long names")
        .dir("owners");
    one.with(Attributes {
        mode: 0o4755,
        uid: 0,
        gid: 50,
        mtime: 1_234_567_890,
    })
    .file("owners/setuid", b"#!/bin/sh\n");
    one.with(Attributes {
        mode: 0o2750,
        uid: 3_000_000,
        gid: 3_000_001,
        mtime: 1_000_000_000,
    })
    .file("owners/large-ids", b"ids")
    .dir("owners/setgid-dir");
    one.with(Attributes {
        mode: 0o1777,
        uid: 1,
        gid: 2,
        mtime: 42,
    })
    .dir("owners/sticky");
    one.with(Attributes {
        mode: 0o000,
        uid: 1000,
        gid: 1000,
        mtime: 0,
    })
    .file("owners/no-mode", b"x");

    let mut two = LayerTar::default();
    two.dir("links")
        .file("links/a", b"three names, one file")
        .hardlink("links/b", "links/a")
        .hardlink("links/c", "links/b")
        .symlink("links/absolute", "/kept/file")
        .symlink("links/relative", "../kept/file")
        .symlink("links/dangling", "/nowhere/at/all")
        .symlink("links/up", "../../../../kept")
        .dir("xattrs")
        .xattr("security.capability", CAP_NET_RAW)
        .program("xattrs/ping", b"not really")
        .xattr("user.mime_type", b"text/plain")
        .xattr("user.binary", &[0, 255, 1])
        .file("xattrs/user", b"x")
        .pax("mtime", b"1500000000.123456789")
        .file("xattrs/nanoseconds", b"t")
        .dir("nodes")
        .device("nodes/null", 1, 3)
        .fifo("nodes/fifo");

    let mut three = LayerTar::default();
    three
        .dir("links")
        .whiteout("removed")
        .dir("hidden")
        .opaque("hidden")
        .file("hidden/above", b"three")
        .whiteout("becomes-file")
        .file("becomes-file", b"three")
        .whiteout("becomes-dir")
        .dir("becomes-dir")
        .file("becomes-dir/inside", b"three")
        .whiteout("links/c");

    let mut four = LayerTar::default();
    four.dir("removed")
        .file("removed/again", b"four")
        .file("kept/file", b"four");
    four.with(Attributes {
        mode: 0o700,
        uid: 7,
        gid: 8,
        mtime: 1_111_111_111,
    })
    .dir("kept");

    [
        busybox.to_vec(),
        one.finish(),
        two.finish(),
        three.finish(),
        four.finish(),
    ]
    .into_iter()
    .fold(Image::new(), |image, tar| image.layer(&tar, compression))
}

/// Noise does not compress, so that a broken or slow connection breaks in the middle of a layer.
fn big(busybox: &[u8]) -> Image {
    let mut image = Image::new().layer(busybox, Compression::Gzip);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for number in 0..3 {
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .take(512 * 1024)
        .flatten()
        .collect();
        let mut tar = LayerTar::default();
        tar.file(&format!("noise-{number}"), &noise);
        image = image.layer(&tar.finish(), Compression::Gzip);
    }
    image
}

fn hostile(busybox: &[u8], layout: &mut Layout<'_>) {
    let mut add = |name: &str, tar: LayerTar| {
        let image = Image::new()
            .layer(busybox, Compression::Gzip)
            .layer(&tar.finish(), Compression::Gzip);
        layout.add(&format!("hostile/{name}:latest"), &image);
    };

    let mut tar = LayerTar::default();
    tar.file("../../../../../../tmp/berth-escaped", b"out");
    add("dotdot", tar);

    let mut tar = LayerTar::default();
    tar.symlink("way", "/tmp").file("way/berth-escaped", b"out");
    add("absolute-link", tar);

    let mut tar = LayerTar::default();
    tar.symlink("way", "../../../../../../../../tmp")
        .file("way/berth-escaped", b"out");
    add("relative-link", tar);

    let mut tar = LayerTar::default();
    tar.hardlink("passwd", "../../../../../../../../../../etc/passwd");
    add("hardlink", tar);

    let mut tar = LayerTar::default();
    tar.symlink("way", "/etc")
        .hardlink("passwd", "way/berth-no-such-file");
    add("hardlink-through-link", tar);

    let mut tar = LayerTar::default();
    tar.file("/tmp/berth-absolute", b"must land inside the root");
    add("absolute-path", tar);

    let mut tar = LayerTar::default();
    tar.symlink("way", "/tmp").whiteout("way/berth-victim");
    add("whiteout-through-link", tar);

    let mut tar = LayerTar::default();
    tar.file(".wh...", b"");
    add("whiteout-dotdot", tar);

    let mut tar = LayerTar::default();
    tar.device("disk", 254, 0);
    add("device", tar);

    layout.add(
        "hostile/bomb:latest",
        &Image::new()
            .layer(busybox, Compression::Gzip)
            .blob(&bomb(), "zstd"),
    );
}

/// A file of 64 GiB of zeros in less than 8 MiB. Zstd frames may follow each other, so that one
/// frame of zeros is made once and repeated; nobody has to compress the whole.
fn bomb() -> Vec<u8> {
    const FRAME: usize = 64 << 20;
    const FRAMES: usize = 1024;
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    header.set_size((FRAME * FRAMES) as u64);
    header.set_cksum();
    let mut blob = compress(header.as_bytes(), Compression::Zstd);
    let zeros = compress(&vec![0; FRAME], Compression::Zstd);
    for _ in 0..FRAMES {
        blob.extend_from_slice(&zeros);
    }
    blob
}
