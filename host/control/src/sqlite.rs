//! The state in SQLite: one file, no server, every commit on disk before it returns.

use crate::record::{Change, JobRecord, MachineRecord, State, Store, StoreError};
use rusqlite::{Connection, OptionalExtension, params};
use std::path::{Path, PathBuf};

/// The version of the tables this program knows.
const VERSION: i64 = 1;

/// One pool's state in a SQLite file that pools may share.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    pool: String,
}

impl SqliteStore {
    /// Opens or makes the file, readable by its owner alone, and the part of it that is `pool`'s.
    ///
    /// # Errors
    /// Where the file can't be opened, is no database, or is of a newer version than this one knows.
    pub fn open(path: &Path, pool: &str) -> Result<SqliteStore, StoreError> {
        let fail = |why: String| StoreError {
            attempt: "reading",
            location: path.display().to_string(),
            why,
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path)
                .map_err(|error| fail(error.to_string()))?;
        }
        let connection = Connection::open(path).map_err(|error| fail(error.to_string()))?;
        prepare(&connection).map_err(|error| fail(error.to_string()))?;
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|error| fail(error.to_string()))?;
        match version {
            0 => connection
                .execute_batch(TABLES)
                .map_err(|error| fail(error.to_string()))?,
            VERSION => {}
            newer => {
                return Err(fail(format!(
                    "it has version {newer} and this program knows version {VERSION}"
                )));
            }
        }
        Ok(SqliteStore {
            connection,
            path: path.to_path_buf(),
            pool: pool.to_owned(),
        })
    }

    /// The pools that have machines or jobs in the file, in order of their keys.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub fn pools(&self) -> Result<Vec<String>, StoreError> {
        let read = || -> Result<Vec<String>, rusqlite::Error> {
            let mut statement = self
                .connection
                .prepare("SELECT pool FROM machine UNION SELECT pool FROM job ORDER BY 1")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        };
        read().map_err(|error| self.error("reading", error))
    }

    fn error(&self, attempt: &'static str, why: impl std::fmt::Display) -> StoreError {
        StoreError {
            attempt,
            location: self.path.display().to_string(),
            why: why.to_string(),
        }
    }

    fn read(&self) -> Result<State, rusqlite::Error> {
        let next: Option<i64> = self
            .connection
            .query_row(
                "SELECT next_machine FROM pool WHERE pool = ?1",
                [&self.pool],
                |row| row.get(0),
            )
            .optional()?;
        Ok(State {
            machines: self.rows("SELECT record FROM machine WHERE pool = ?1 ORDER BY id")?,
            jobs: self.rows("SELECT record FROM job WHERE pool = ?1 ORDER BY taken, id")?,
            next_machine: next.unwrap_or(0).cast_unsigned(),
        })
    }

    fn rows<T: serde::de::DeserializeOwned>(&self, query: &str) -> Result<Vec<T>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(query)?;
        let rows = statement.query_map([&self.pool], |row| row.get::<_, String>(0))?;
        rows.map(|row| {
            serde_json::from_str(&row?).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(
                    0,
                    rusqlite::types::Type::Text,
                    Box::new(error),
                )
            })
        })
        .collect()
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), Box<dyn std::error::Error>> {
        let transaction = self.connection.transaction()?;
        for change in changes {
            match change {
                Change::PutMachine(record) => put_machine(&transaction, &self.pool, record)?,
                Change::DropMachine(id) => {
                    transaction
                        .prepare_cached("DELETE FROM machine WHERE pool = ?1 AND id = ?2")?
                        .execute(params![self.pool, id.0.cast_signed()])?;
                }
                Change::PutJob(record) => put_job(&transaction, &self.pool, record)?,
                Change::DropJob(id) => {
                    transaction
                        .prepare_cached("DELETE FROM job WHERE pool = ?1 AND id = ?2")?
                        .execute(params![self.pool, id.0.cast_signed()])?;
                }
                Change::NextMachine(next) => {
                    transaction
                        .prepare_cached(
                            "INSERT INTO pool (pool, next_machine) VALUES (?1, ?2)
                             ON CONFLICT (pool) DO UPDATE SET next_machine = ?2",
                        )?
                        .execute(params![self.pool, next.cast_signed()])?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

const TABLES: &str = "BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS pool (pool TEXT PRIMARY KEY, next_machine INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS machine (
  pool TEXT NOT NULL, id INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (pool, id)
) STRICT;
CREATE TABLE IF NOT EXISTS job (
  pool TEXT NOT NULL, id INTEGER NOT NULL, taken INTEGER NOT NULL, record TEXT NOT NULL,
  PRIMARY KEY (pool, id)
) STRICT;
PRAGMA user_version = 1;
COMMIT;";

fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")
}

fn put_machine(
    connection: &Connection,
    pool: &str,
    record: &MachineRecord,
) -> Result<(), Box<dyn std::error::Error>> {
    connection
        .prepare_cached(
            "INSERT INTO machine (pool, id, record) VALUES (?1, ?2, ?3)
             ON CONFLICT (pool, id) DO UPDATE SET record = ?3",
        )?
        .execute(params![
            pool,
            record.machine.id.0.cast_signed(),
            serde_json::to_string(record)?
        ])?;
    Ok(())
}

fn put_job(
    connection: &Connection,
    pool: &str,
    record: &JobRecord,
) -> Result<(), Box<dyn std::error::Error>> {
    connection
        .prepare_cached(
            "INSERT INTO job (pool, id, taken, record) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (pool, id) DO UPDATE SET record = ?4",
        )?
        .execute(params![
            pool,
            record.id.0.cast_signed(),
            record.taken.0.cast_signed(),
            serde_json::to_string(record)?
        ])?;
    Ok(())
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<State, StoreError> {
        self.read().map_err(|error| self.error("reading", error))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.write(changes)
            .map_err(|error| self.error("writing", error))
    }
}
