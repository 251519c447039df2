//! What sort of failure an error is, so that each protocol chooses its status in one table.

/// The sort of a failure. HTTP status and exit code follow from it in the protocol crates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such container, image, network or path.
    NotFound,
    /// The request itself is wrong.
    InvalidParameter,
    /// The request is right, but not in the object's present state, or the name is taken.
    Conflict,
    /// The object is so already.
    NotModified,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// Not allowed, whoever asks.
    Forbidden,
    /// Something this needs does not answer now.
    Unavailable,
    /// Not there yet.
    NotImplemented,
    /// A failure on our side or the kernel's.
    Internal,
}
