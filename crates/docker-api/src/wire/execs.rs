//! Bodies of `POST /containers/{id}/exec` and `POST /exec/{id}/start`.

use serde::Deserialize;

/// What an exec is to be.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ExecConfig {
    pub attach_stdin: Option<bool>,
    pub attach_stdout: Option<bool>,
    pub attach_stderr: Option<bool>,
    pub console_size: Option<(u16, u16)>,
    pub detach_keys: Option<String>,
    pub tty: Option<bool>,
    pub env: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub privileged: Option<bool>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
}

/// How it is started.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ExecStartConfig {
    pub detach: Option<bool>,
    pub tty: Option<bool>,
    pub console_size: Option<(u16, u16)>,
}
