//! The state in a file: what is committed is there after a restart, pools do not mix, and a file
//! that can't be used is named.

use springtide_control::{
    Boot, Change, JobRecord, MachineRecord, MemoryStore, SqliteStore, Stage, State, Store,
};
use springtide_pool::{JobId, JobPhase, Machine, MachineId, Phase, Time};
use std::os::unix::fs::PermissionsExt;

fn machine(id: u64, phase: Phase) -> MachineRecord {
    MachineRecord {
        machine: Machine {
            id: MachineId(id),
            phase,
            builds: 3,
            made: Time(7),
            interrupted: false,
        },
        name: format!("ci-{id}"),
        token: format!("token-{id}"),
        provider_id: Some(format!("i-{id}")),
        scope: "scope".into(),
        reach: None,
        lease_until: Time(9),
        removal_accepted: false,
        boot: Boot::default(),
        keep: false,
    }
}

fn job(id: u64) -> JobRecord {
    JobRecord {
        id: JobId(id),
        phase: JobPhase::Running {
            machine: MachineId(1),
        },
        taken: Time(5),
        tries: 1,
        started: true,
        ending: None,
    }
}

fn changes() -> Vec<Change> {
    let (since, job_id) = (Time(8), JobId(41));
    vec![
        Change::NextMachine(3),
        Change::PutMachine(machine(1, Phase::Idle { since: Time(1) })),
        Change::PutMachine(machine(2, Phase::Creating { since: Time(2) })),
        Change::PutJob(job(40)),
        Change::PutJob(job(41)),
        Change::DropJob(JobId(40)),
        Change::PutMachine(machine(1, Phase::Busy { since, job: job_id })),
        Change::DropMachine(MachineId(2)),
    ]
}

#[test]
fn what_is_committed_is_there_after_a_restart_and_as_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let mut memory = MemoryStore::default();
    memory.commit(&changes()).unwrap();
    let mut file = SqliteStore::open(&path, "one").unwrap();
    file.commit(&changes()).unwrap();
    drop(file);
    let mut other = SqliteStore::open(&path, "two").unwrap();
    assert_eq!(other.load().unwrap(), State::default());
    let again = SqliteStore::open(&path, "one").unwrap().load().unwrap();
    assert_eq!(again, memory.state);
    assert_eq!(again.machines.len(), 1);
    assert_eq!(again.next_machine, 3);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "others may read the state");
}

#[test]
fn a_state_written_before_boots_were_noted_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let mut store = SqliteStore::open(&path, "one").unwrap();
    let before = machine(1, Phase::Idle { since: Time(1) });
    store.commit(&[Change::PutMachine(before.clone())]).unwrap();
    drop(store);
    let old = r#"{"machine":{"id":1,"phase":"idle","since":1,"builds":3,"made":7,"interrupted":false},"name":"ci-1","token":"token-1","provider-id":"i-1","scope":"scope","reach":null,"lease-until":9,"removal-accepted":false}"#;
    let connection = rusqlite::Connection::open(&path).unwrap();
    let changed = connection
        .execute("UPDATE machine SET record = ?1", [old])
        .unwrap();
    assert_eq!(changed, 1);
    drop(connection);
    let mut store = SqliteStore::open(&path, "one").unwrap();
    assert_eq!(
        store.load().unwrap().machines,
        std::slice::from_ref(&before)
    );
    let mut noted = before;
    assert!(noted.boot.pass(Stage::Tcp, Time(20)));
    noted.keep = true;
    store.commit(&[Change::PutMachine(noted.clone())]).unwrap();
    assert_eq!(store.load().unwrap().machines, [noted]);
}

#[test]
fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    std::fs::write(&path, "a letter, not a database\n".repeat(100)).unwrap();
    let error = SqliteStore::open(&path, "one").unwrap_err().to_string();
    assert!(
        error.contains("state.db") && error.contains("database"),
        "{error}"
    );
    let error = SqliteStore::open(folder.path(), "one")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&folder.path().display().to_string()),
        "{error}"
    );
}

#[test]
fn a_newer_version_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    drop(SqliteStore::open(&path, "one").unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteStore::open(&path, "one").unwrap_err().to_string();
    assert!(error.contains("99"), "{error}");
}
