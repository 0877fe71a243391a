//! The shared cache: keys, names of objects, and addresses that are signed for a machine to use.
//!
//! Keys, archives' places and objects' names are as GitLab Runner makes them, so that a bucket can be
//! shared with it. An address is good for one object, one method and some time; the keys it is signed
//! with stay here. No object's name is outside of its project's, whatever a job calls its cache.
//!
//! Nothing here fails a job: each error has words for the trace, and the job goes on without a cache.
//! The clock is an argument. Requests are sent for a bucket's region and for a role's session alone.

mod azure;
mod error;
mod gcs;
mod key;
mod object;
mod s3;
mod signed;
mod store;

pub use error::CacheError;
pub use key::{CacheKey, Job, Keys, archive_path};
pub use object::{NameError, ObjectName};
pub use signed::Signed;
pub use store::{Restore, Store, StoreOptions};
