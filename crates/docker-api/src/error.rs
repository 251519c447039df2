//! One table from the sort of failure to the HTTP status, and the body docker's clients read.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use model::ErrorKind;
use std::error::Error;

/// A failure as the API answers it: a status and `{"message": …}`.
#[derive(Debug)]
pub struct ApiError {
    kind: ErrorKind,
    message: String,
}

impl ApiError {
    /// Makes an error with a message of the API's own.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// Makes an error of a lower layer's, its chain of causes in one line.
    #[must_use]
    pub fn from_error(kind: ErrorKind, error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            // A layer that gives its cause in its own words has said it already.
            let cause_text = cause.to_string();
            if !message.contains(&cause_text) {
                message.push_str(": ");
                message.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self { kind, message }
    }

    /// Makes the error of a request that is wrong in itself.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameter, message)
    }

    /// Makes the error of something that is not there yet, named by `what`.
    pub fn not_supported(what: &str) -> Self {
        Self::new(
            ErrorKind::NotImplemented,
            format!("{what} is not supported yet"),
        )
    }

    /// Returns the HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        status_of(self.kind)
    }

    /// Returns the message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::InvalidParameter => StatusCode::BAD_REQUEST,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status == StatusCode::NOT_MODIFIED {
            return status.into_response();
        }
        (status, Json(serde_json::json!({ "message": self.message }))).into_response()
    }
}

/// Lets `?` turn an engine's error into an [`ApiError`] through its `kind()`.
macro_rules! from_engine_error {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for crate::ApiError {
            fn from(error: $error) -> Self {
                Self::from_error(error.kind(), &error)
            }
        }
    )*};
}
pub(crate) use from_engine_error;
