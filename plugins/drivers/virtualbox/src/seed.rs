//! What a machine is told at its first boot: a NoCloud seed for cloud-init, or, for boot2docker, a
//! disk that begins with a tar.

use crate::iso;
use crate::vm::Id;
use serde_json::{Value, json};
use springtide_sdk::{Creation, PluginError};

/// Where a seed's name begins.
const PREFIX: &str = "springtide_";
/// So much of a disk boot2docker reads before it formats it.
const BOOT2DOCKER: usize = 4096;

/// The name of a machine's seed in the scratch directory: the owner is read from it again.
pub(crate) fn name(id: &Id) -> String {
    format!("{PREFIX}{}_{}.iso", id.owner, id.token)
}

/// Whose seed a file is.
pub(crate) fn of_path(path: &str) -> Option<Id> {
    let (_, file) = path.rsplit_once('/')?;
    let marks = file.strip_prefix(PREFIX)?.strip_suffix(".iso")?;
    let (owner, token) = marks.split_once('_')?;
    Some(Id {
        owner: owner.into(),
        pool: String::new(),
        token: token.into(),
    })
}

/// A card of a machine: its name and its address, twelve hexadecimal digits.
pub(crate) type Card<'c> = (&'c str, &'c str);

/// The seed. The key goes into the metadata, and into the user data where the host has none; cards
/// are configured where there are several.
pub(crate) fn image(creation: &Creation, user: &str, cards: &[Card]) -> Vec<u8> {
    let keys: Vec<&str> = creation.ssh_key.iter().map(|key| key.trim()).collect();
    let meta = json!({
        "instance-id": creation.token,
        "local-hostname": creation.name,
        "public-keys": keys,
    });
    // JSON is YAML, and has one way to quote.
    let meta = format!("{meta}\n");
    let user_data = creation.user_data.clone().unwrap_or_else(|| {
        let own = json!({
            "ssh_pwauth": false,
            "users": ["default", {
                "name": user,
                "shell": "/bin/bash",
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": keys,
            }],
        });
        format!("#cloud-config\n{own}\n")
    });
    let network = format!("{}\n", network(cards));
    let mut files: Vec<(&str, &[u8])> = vec![
        ("meta-data", meta.as_bytes()),
        ("user-data", user_data.as_bytes()),
    ];
    if cards.len() > 1 {
        files.push(("network-config", network.as_bytes()));
    }
    iso::image("cidata", &files)
}

fn network(cards: &[Card]) -> Value {
    let ethernets = cards.iter().map(|(name, address)| {
        let pairs: Vec<String> = address
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).to_ascii_lowercase())
            .collect();
        let card = json!({"match": {"macaddress": pairs.join(":")}, "dhcp4": true});
        ((*name).to_owned(), card)
    });
    json!({"version": 2, "ethernets": ethernets.collect::<serde_json::Map<_, _>>()})
}

/// The beginning of a disk that boot2docker formats and takes the key from. It is told nothing else:
/// its `profile` is written over SSH.
pub(crate) fn boot2docker(creation: &Creation) -> Result<Vec<u8>, PluginError> {
    const MAGIC: &str = "boot2docker, please format-me";
    let key = creation
        .ssh_key
        .as_deref()
        .map(str::trim)
        .unwrap_or_default();
    let key = format!("{key}\n");
    let mut disk = entry(MAGIC, b'0', 0o644, MAGIC.as_bytes());
    disk.extend(entry(".ssh", b'5', 0o700, b""));
    disk.extend(entry(".ssh/authorized_keys", b'0', 0o600, key.as_bytes()));
    let again = entry(".ssh/authorized_keys2", b'0', 0o600, key.as_bytes());
    if disk.len() + again.len() <= BOOT2DOCKER - 512 {
        disk.extend(again);
    }
    if disk.len() > BOOT2DOCKER - 512 {
        return Err(PluginError::InvalidConfig(format!(
            "boot2docker takes no key of {} bytes: use an ed25519 key",
            key.len()
        )));
    }
    disk.resize(BOOT2DOCKER, 0);
    Ok(disk)
}

/// An entry of a tar: its head, and what is in it, filled up.
fn entry(name: &str, sort: u8, mode: u32, bytes: &[u8]) -> Vec<u8> {
    let mut head = [0; 512];
    let mut put = |at: usize, text: &[u8]| head[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{:011o}", bytes.len()).as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[sort]);
    put(257, b"ustar\x0000");
    let sum: u32 = head.iter().copied().map(u32::from).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut entry = head.to_vec();
    entry.extend_from_slice(bytes);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::creation;
    use crate::iso::tests::read;

    #[test]
    fn a_seed_says_who_may_log_in_and_what_the_machine_is_called() {
        let (volume, files) = read(&image(&creation(), "ci", &[]));
        assert_eq!(volume, "cidata");
        assert_eq!(files.len(), 2);
        let meta: Value = serde_json::from_slice(&files["meta-data"]).unwrap();
        assert_eq!(meta["local-hostname"], "ci-1");
        assert_eq!(meta["public-keys"][0], "ssh-ed25519 AAAA manager");
        let user = String::from_utf8_lossy(&files["user-data"]);
        assert!(user.starts_with("#cloud-config\n"), "{user}");
        assert!(user.contains("\"name\":\"ci\""), "{user}");
    }

    #[test]
    fn the_hosts_user_data_goes_in_as_it_is() {
        let mut creation = creation();
        creation.user_data = Some("#!/bin/sh\nexit 0\n".into());
        let cards = [("nat", "080027C3D962"), ("hostonly", "080027C3D963")];
        let (_, files) = read(&image(&creation, "ci", &cards));
        assert_eq!(files["user-data"], b"#!/bin/sh\nexit 0\n");
        let network: Value = serde_json::from_slice(&files["network-config"]).unwrap();
        let address = &network["ethernets"]["nat"]["match"]["macaddress"];
        assert_eq!(address, "08:00:27:c3:d9:62");
    }

    #[test]
    fn a_seeds_name_says_whose_it_is() {
        let id = Id {
            owner: "own-1".into(),
            pool: String::new(),
            token: "t1".into(),
        };
        assert_eq!(of_path(&format!("/scratch/{}", name(&id))), Some(id));
        assert_eq!(of_path("/scratch/other.iso"), None);
    }

    #[test]
    fn boot2docker_finds_its_word_and_the_key_where_it_looks() {
        let disk = boot2docker(&creation()).unwrap();
        assert!(disk.starts_with(b"boot2docker, please format-me"));
        assert_eq!(disk.len(), BOOT2DOCKER);
        let text = String::from_utf8_lossy(&disk);
        assert_eq!(text.matches("ssh-ed25519 AAAA manager").count(), 2);
        let mut long = creation();
        long.ssh_key = Some(format!("ssh-rsa {} x", "A".repeat(720)));
        let disk = boot2docker(&long).unwrap();
        let text = String::from_utf8_lossy(&disk);
        assert_eq!(text.matches("ssh-rsa").count(), 1, "two would not fit");
        long.ssh_key = Some("A".repeat(3000));
        assert!(boot2docker(&long).is_err());
    }
}
