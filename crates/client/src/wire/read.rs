//! Documents that the daemon answers with.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Declares a wire struct that accepts missing and `null` fields.
macro_rules! wire {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            $($(#[$field_meta])* #[serde(deserialize_with = "null_is_default")] pub $field: $type,)*
        }
    };
}

/// Go writes empty lists and maps as `null`.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

wire! {
    /// Answer to create.
    Created {
        /// The container's or exec's ID.
        id: String,
        /// What the user should know.
        warnings: Vec<String>,
    }
}

wire! {
    /// Answer to wait.
    Waited {
        /// Exit code.
        status_code: i64,
        /// Why waiting failed.
        error: Option<WaitError>,
    }
}

wire! {
    /// Why waiting failed.
    WaitError {
        /// In words.
        message: String,
    }
}

wire! {
    /// One container in a list.
    ContainerSummary {
        /// ID.
        id: String,
        /// `/name`, and names by links.
        names: Vec<String>,
        /// Image as the user named it.
        image: String,
        /// Its ID.
        #[serde(rename = "ImageID")]
        image_id: String,
        /// Command line in one string.
        command: String,
        /// Unix time.
        created: i64,
        /// Ports.
        ports: Vec<Port>,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// `running`, …
        state: String,
        /// `Up 3 minutes`.
        status: String,
        /// Bytes written.
        size_rw: i64,
        /// Bytes in all.
        size_root_fs: i64,
        /// Networks.
        network_settings: SummaryNetworks,
        /// Mounts.
        mounts: Vec<SummaryMount>,
    }
}

wire! {
    /// A port in a list.
    Port {
        /// Host address.
        #[serde(rename = "IP")]
        ip: String,
        /// Container's.
        private_port: u16,
        /// Host's.
        public_port: u16,
        /// `tcp`.
        r#type: String,
    }
}

wire! {
    /// Networks in a list.
    SummaryNetworks {
        /// By name.
        networks: BTreeMap<String, serde_json::Value>,
    }
}

wire! {
    /// A mount in a list.
    SummaryMount {
        /// Volume name.
        name: String,
        /// Host path.
        source: String,
    }
}

wire! {
    /// What commands need of `GET /containers/{id}/json`.
    ContainerInspect {
        /// ID.
        id: String,
        /// `/name`.
        name: String,
        /// State.
        state: ContainerState,
        /// Settings.
        config: InspectConfig,
        /// Host settings.
        host_config: InspectHostConfig,
    }
}

wire! {
    /// A container's state.
    ContainerState {
        /// `running`, …
        status: String,
        /// It runs.
        running: bool,
        /// It is paused.
        paused: bool,
        /// It is about to run again.
        restarting: bool,
        /// Exit code.
        exit_code: i64,
    }
}

wire! {
    /// What commands need of a container's settings.
    InspectConfig {
        /// A terminal.
        tty: bool,
        /// Stdin is open.
        open_stdin: bool,
    }
}

wire! {
    /// What commands need of a container's host settings.
    InspectHostConfig {
        /// `--rm`.
        auto_remove: bool,
    }
}

wire! {
    /// What commands need of `GET /exec/{id}/json`.
    ExecInspect {
        /// It runs.
        running: bool,
        /// Exit code; none while it runs.
        exit_code: Option<i64>,
    }
}

wire! {
    /// One image in a list.
    ImageSummary {
        /// `sha256:…`.
        id: String,
        /// `name:tag`.
        repo_tags: Vec<String>,
        /// `name@sha256:…`.
        repo_digests: Vec<String>,
        /// Unix time.
        created: i64,
        /// Bytes.
        size: i64,
        /// Containers that use it; -1: not counted.
        containers: i64,
        /// Labels.
        labels: BTreeMap<String, String>,
    }
}

wire! {
    /// One step of an image's history.
    HistoryItem {
        /// ID, or `<missing>`.
        id: String,
        /// Unix time.
        created: i64,
        /// The instruction.
        created_by: String,
        /// Bytes.
        size: i64,
        /// Remark.
        comment: String,
    }
}

wire! {
    /// One thing that removing an image did.
    ImageDelete {
        /// A reference.
        untagged: String,
        /// A layer or image.
        deleted: String,
    }
}

wire! {
    /// Answer to `POST /images/prune`.
    ImagesPruned {
        /// What was removed.
        images_deleted: Vec<ImageDelete>,
        /// Bytes.
        space_reclaimed: u64,
    }
}

wire! {
    /// Answer to `POST /containers/prune`.
    ContainersPruned {
        /// IDs.
        containers_deleted: Vec<String>,
        /// Bytes.
        space_reclaimed: u64,
    }
}

wire! {
    /// Answer to top.
    Top {
        /// Column heads.
        titles: Vec<String>,
        /// Rows.
        processes: Vec<Vec<String>>,
    }
}

wire! {
    /// Answer to `GET /version`.
    Version {
        /// Product.
        platform: VersionPlatform,
        /// Version.
        version: String,
        /// API version.
        api_version: String,
        /// Oldest API version.
        #[serde(rename = "MinAPIVersion")]
        min_api_version: String,
        /// Commit.
        git_commit: String,
        /// Compiler.
        go_version: String,
        /// Operating system.
        os: String,
        /// Architecture.
        arch: String,
        /// Kernel.
        kernel_version: String,
        /// Built at.
        build_time: String,
    }
}

wire! {
    /// Product name.
    VersionPlatform {
        /// In words.
        name: String,
    }
}

/// One line of a pull's or import's progress.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Layer, or the tag at the first line.
    pub id: String,
    /// What happens.
    pub status: String,
    /// A stream's text (build, load).
    pub stream: String,
    /// How far.
    #[serde(rename = "progressDetail", deserialize_with = "null_is_default")]
    pub detail: ProgressDetail,
    /// It failed.
    pub error: Option<String>,
}

/// How far a step is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    /// So far.
    pub current: u64,
    /// In all; 0: unknown.
    pub total: u64,
    /// What is counted; empty: bytes, `s`: seconds.
    pub units: String,
}
