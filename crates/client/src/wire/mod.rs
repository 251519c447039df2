//! The API's documents, as far as the commands read and write them.
//!
//! Everything that is absent is the daemon's default, so requests leave out what the user did not
//! say, and answers may lack what an older daemon does not know.

mod create;
mod read;

pub use create::*;
pub use read::*;
