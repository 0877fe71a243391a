//! What an operator can set, as `MachineOptions`: the flags of docker-machine's driver of this name,
//! and a few of ours.

use serde::Deserialize;
use springtide_sdk::PluginError;

pub(crate) const SCHEMA: &str = include_str!("settings.json");

/// The settings as they travel. What the host keeps or reads never gets here, and what is deprecated
/// is passed over.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    #[serde(rename = "amazonec2-region")]
    pub(crate) region: String,
    #[serde(rename = "amazonec2-endpoint")]
    endpoint: String,
    #[serde(rename = "amazonec2-insecure-transport")]
    insecure_transport: bool,
    #[serde(rename = "amazonec2-ami")]
    pub(crate) ami: String,
    #[serde(rename = "amazonec2-image")]
    pub(crate) image: Publisher,
    #[serde(rename = "amazonec2-instance-type")]
    instance_type: String,
    #[serde(rename = "amazonec2-instance-types")]
    instance_types: Vec<String>,
    #[serde(rename = "amazonec2-vpc-id")]
    pub(crate) vpc_id: String,
    #[serde(rename = "amazonec2-zone")]
    zone: String,
    #[serde(rename = "amazonec2-zones")]
    zones: Vec<String>,
    #[serde(rename = "amazonec2-subnet-id")]
    pub(crate) subnet_id: String,
    #[serde(rename = "amazonec2-security-group")]
    pub(crate) security_groups: Vec<String>,
    #[serde(rename = "amazonec2-security-group-readonly")]
    pub(crate) security_group_readonly: bool,
    #[serde(rename = "amazonec2-open-port")]
    open_ports: Vec<String>,
    #[serde(rename = "amazonec2-tags")]
    tags: String,
    #[serde(rename = "amazonec2-device-name")]
    pub(crate) device_name: Option<String>,
    #[serde(rename = "amazonec2-root-size")]
    pub(crate) root_size: u32,
    #[serde(rename = "amazonec2-volume-type")]
    pub(crate) volume_type: String,
    #[serde(rename = "amazonec2-volume-encrypted")]
    pub(crate) volume_encrypted: bool,
    #[serde(rename = "amazonec2-volume-kms-key")]
    pub(crate) volume_kms_key: String,
    #[serde(rename = "amazonec2-iam-instance-profile")]
    pub(crate) iam_instance_profile: String,
    #[serde(rename = "amazonec2-ssh-port")]
    pub(crate) ssh_port: u16,
    #[serde(rename = "amazonec2-ssh-user")]
    ssh_user: String,
    #[serde(rename = "amazonec2-keypair-name")]
    pub(crate) keypair_name: String,
    #[serde(rename = "amazonec2-request-spot-instance")]
    pub(crate) request_spot_instance: bool,
    #[serde(rename = "amazonec2-spot-only")]
    pub(crate) spot_only: bool,
    #[serde(rename = "amazonec2-spot-price")]
    pub(crate) spot_price: String,
    #[serde(rename = "amazonec2-private-address-only")]
    pub(crate) private_address_only: bool,
    #[serde(rename = "amazonec2-use-private-address")]
    use_private_address: bool,
    #[serde(rename = "amazonec2-monitoring")]
    pub(crate) monitoring: bool,
    #[serde(rename = "amazonec2-use-ebs-optimized-instance")]
    pub(crate) ebs_optimized: bool,
    #[serde(rename = "amazonec2-metadata-token")]
    pub(crate) metadata_token: String,
    #[serde(rename = "amazonec2-metadata-token-response-hop-limit")]
    pub(crate) metadata_hop_limit: u32,
}

/// Whose images are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Publisher {
    Ubuntu,
    Debian,
}

/// A port that is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) protocol: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            region: "us-east-1".into(),
            endpoint: String::new(),
            insecure_transport: false,
            ami: String::new(),
            image: Publisher::Ubuntu,
            instance_type: "t2.micro".into(),
            instance_types: Vec::new(),
            vpc_id: String::new(),
            zone: "a".into(),
            zones: Vec::new(),
            subnet_id: String::new(),
            security_groups: vec!["docker-machine".into()],
            security_group_readonly: false,
            open_ports: Vec::new(),
            tags: String::new(),
            device_name: None,
            root_size: 16,
            volume_type: "gp2".into(),
            volume_encrypted: false,
            volume_kms_key: String::new(),
            iam_instance_profile: String::new(),
            ssh_port: 22,
            ssh_user: String::new(),
            keypair_name: String::new(),
            request_spot_instance: false,
            spot_only: false,
            spot_price: "0.50".into(),
            private_address_only: false,
            use_private_address: false,
            monitoring: false,
            ebs_optimized: false,
            metadata_token: String::new(),
            metadata_hop_limit: 0,
        }
    }
}

impl Settings {
    /// Reads and checks them.
    pub(crate) fn read(text: &str) -> Result<Settings, PluginError> {
        // A list would be read as the fields in their order.
        if !text.trim_start().starts_with('{') {
            return Err(wrong("the settings are no JSON object"));
        }
        let settings: Settings = serde_json::from_str(text)
            .map_err(|error| wrong(&format!("the settings do not fit: {error}")))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), PluginError> {
        let letters = |text: &str| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            !text.is_empty() && text.len() < 64 && text.chars().all(plain)
        };
        if !letters(&self.region) || self.region.starts_with('-') || self.region.ends_with('-') {
            return Err(wrong(&format!(
                "amazonec2-region is {:?}: write a region such as eu-west-1",
                self.region
            )));
        }
        for zone in self.zones() {
            if !letters(&zone) || zone.len() <= self.region.len() {
                return Err(wrong(&format!(
                    "the zone {zone:?} is none: write a letter, or a name such as {}a",
                    self.region
                )));
            }
        }
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._:/[]".contains(letter);
        if !self.endpoint.chars().all(plain) {
            return Err(wrong(&format!(
                "amazonec2-endpoint is {:?}, which is no address: write it as https://ec2.example.com",
                self.endpoint
            )));
        }
        let insecure = self.endpoint.starts_with("http://");
        if insecure && !self.insecure_transport {
            return Err(wrong(&format!(
                "amazonec2-endpoint is {:?}, which is not encrypted: write https://, or set amazonec2-insecure-transport",
                self.endpoint
            )));
        }
        if self.endpoint.is_empty() && self.insecure_transport {
            return Err(wrong(
                "amazonec2-insecure-transport is set without amazonec2-endpoint: AWS itself is asked with TLS only",
            ));
        }
        if !self.spot_price.is_empty() && self.spot_price.parse::<f64>().is_err() {
            return Err(wrong(&format!(
                "amazonec2-spot-price is {:?}: write dollars an hour, such as 0.05",
                self.spot_price
            )));
        }
        if self.spot_only && !self.request_spot_instance {
            return Err(wrong(
                "amazonec2-spot-only is set without amazonec2-request-spot-instance: set both",
            ));
        }
        if self
            .security_groups
            .iter()
            .any(|name| name.trim().is_empty())
        {
            return Err(wrong(
                "amazonec2-security-group is empty: write a name or an id",
            ));
        }
        let of_user = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let user = &self.ssh_user;
        if user.len() > 64 || user.starts_with('-') || !user.chars().all(of_user) {
            return Err(wrong(&format!(
                "amazonec2-ssh-user is {user:?}, which is no user's name: write one such as admin or ubuntu"
            )));
        }
        let known = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
        let odd = |name: &&String| name.len() > 255 || !name.chars().all(known);
        if let Some(name) = self.security_groups.iter().find(odd) {
            return Err(wrong(&format!(
                "amazonec2-security-group is {name:?}, which is no name EC2 knows: write letters, digits and ._-:/()#,@[]+=&;{{}}!$*, 255 at most"
            )));
        }
        self.ports().map(drop)
    }

    /// Where EC2 is asked, with no slash at its end.
    pub(crate) fn endpoint(&self) -> String {
        let region = &self.region;
        let given = self.endpoint.trim_end_matches('/');
        match given {
            "" if region.starts_with("cn-") => format!("https://ec2.{region}.amazonaws.com.cn"),
            "" => format!("https://ec2.{region}.amazonaws.com"),
            _ if given.contains("://") => given.to_owned(),
            _ if self.insecure_transport => format!("http://{given}"),
            _ => format!("https://{given}"),
        }
    }

    /// The instance types to try, in order; never none.
    pub(crate) fn instance_types(&self) -> Vec<String> {
        let several = parts(&self.instance_types);
        match several.is_empty() {
            true => vec![self.instance_type.clone()],
            false => several,
        }
    }

    /// The zones to try by their whole names, in order; never none.
    pub(crate) fn zones(&self) -> Vec<String> {
        let mut several = parts(&self.zones);
        if several.is_empty() {
            several.push(self.zone.clone());
        }
        let whole = |zone: String| match zone.starts_with(&self.region) {
            true => zone,
            false => format!("{}{zone}", self.region),
        };
        several.into_iter().map(whole).collect()
    }

    /// The ports that are let in, SSH's first.
    pub(crate) fn ports(&self) -> Result<Vec<Port>, PluginError> {
        let mut ports = vec![Port {
            number: self.ssh_port,
            protocol: "tcp",
        }];
        for text in parts(&self.open_ports) {
            let (number, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
            let protocol = match protocol {
                "tcp" => Some("tcp"),
                "udp" => Some("udp"),
                _ => None,
            };
            let number = number.parse().ok().filter(|number| *number > 0);
            let (Some(number), Some(protocol)) = (number, protocol) else {
                return Err(wrong(&format!(
                    "amazonec2-open-port is {text:?}: write a port such as 8080, or 53/udp"
                )));
            };
            let port = Port { number, protocol };
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        Ok(ports)
    }

    /// The operator's own tags. A key without a value is left out, as docker-machine does.
    pub(crate) fn own_tags(&self) -> Vec<(String, String)> {
        let parts: Vec<&str> = self.tags.split(',').collect();
        let pairs = parts.chunks_exact(2);
        pairs
            .map(|pair| (pair[0].trim().to_owned(), pair[1].to_owned()))
            .collect()
    }

    /// The user that logs in.
    pub(crate) fn ssh_user(&self) -> &str {
        match self.ssh_user.as_str() {
            "" if self.ami.is_empty() && self.image == Publisher::Debian => "admin",
            "" => "ubuntu",
            user => user,
        }
    }

    /// Whether a machine is reached by its private address.
    pub(crate) fn is_private(&self) -> bool {
        self.private_address_only || self.use_private_address
    }
}

pub(crate) fn wrong(text: &str) -> PluginError {
    PluginError::InvalidConfig(text.into())
}

/// The entries of an option that may stand several times, and hold several with commas.
fn parts(given: &[String]) -> Vec<String> {
    let one = given.iter().flat_map(|text| text.split(','));
    one.map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
