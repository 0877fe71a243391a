//! Artifacts and caches moved by the program itself, against a server and real `zip` and `unzip`.

mod artifacts;
mod cache;
mod reach;
mod server;
mod support;
mod tls;
