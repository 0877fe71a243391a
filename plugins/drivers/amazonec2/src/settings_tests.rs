use super::*;

#[test]
fn the_schema_names_each_setting_with_its_default() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    let defaults: serde_json::Map<_, _> = properties
        .iter()
        .filter_map(|(name, property)| Some((name.clone(), property.get("default")?.clone())))
        .collect();
    let text = serde_json::Value::Object(defaults).to_string();
    let device = Some("/dev/sda1".to_owned());
    let settings = Settings::read(&text).unwrap();
    assert_eq!(settings.device_name, device);
    assert_eq!(
        Settings {
            device_name: None,
            ..settings
        },
        Settings::default()
    );
    assert_eq!(Settings::read("{}").unwrap(), Settings::default());
}

#[test]
fn each_flag_of_docker_machines_driver_is_known() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    let flags = "access-key secret-key session-token ami region vpc-id zone subnet-id \
        security-group-readonly security-group open-port tags instance-type device-name root-size \
        volume-type iam-instance-profile ssh-port ssh-user request-spot-instance spot-price \
        block-duration-minutes private-address-only use-private-address monitoring \
        use-ebs-optimized-instance ssh-keypath keypair-name retries endpoint insecure-transport \
        userdata volume-encrypted volume-kms-key metadata-token metadata-token-response-hop-limit";
    for flag in flags.split_whitespace() {
        let property = &schema["properties"][format!("amazonec2-{flag}")];
        assert!(property["description"].is_string(), "{flag}: {property}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_what_to_write() {
    for (text, said) in [
        ("[]", "no JSON object"),
        (r#"{"amazonec2-root-size": "16"}"#, "invalid type"),
        (r#"{"amazonec2-region": "eu west"}"#, "such as eu-west-1"),
        (
            r#"{"amazonec2-region": "evil.example/"}"#,
            "such as eu-west-1",
        ),
        (r#"{"amazonec2-zone": ""}"#, "such as us-east-1a"),
        (
            r#"{"amazonec2-endpoint": "http://x"}"#,
            "amazonec2-insecure-transport",
        ),
        (
            r#"{"amazonec2-insecure-transport": true}"#,
            "without amazonec2-endpoint",
        ),
        (r#"{"amazonec2-spot-price": "cheap"}"#, "such as 0.05"),
        (r#"{"amazonec2-spot-only": true}"#, "set both"),
        (r#"{"amazonec2-security-group": [" "]}"#, "a name or an id"),
        (r#"{"amazonec2-open-port": ["80/icmp"]}"#, "53/udp"),
        (r#"{"amazonec2-open-port": ["0"]}"#, "53/udp"),
        (r#"{"amazonec2-image": "windows"}"#, "unknown variant"),
    ] {
        let Err(PluginError::InvalidConfig(why)) = Settings::read(text) else {
            panic!("{text} was taken");
        };
        assert!(why.contains(said), "{text}: {why}");
    }
}

#[test]
fn the_endpoint_is_the_regions_or_the_one_given() {
    for (text, wanted) in [
        ("{}", "https://ec2.us-east-1.amazonaws.com"),
        (
            r#"{"amazonec2-region": "cn-north-1"}"#,
            "https://ec2.cn-north-1.amazonaws.com.cn",
        ),
        (
            r#"{"amazonec2-endpoint": "https://ec2.internal/"}"#,
            "https://ec2.internal",
        ),
        (
            r#"{"amazonec2-endpoint": "ec2.internal:8443"}"#,
            "https://ec2.internal:8443",
        ),
        (
            r#"{"amazonec2-endpoint": "127.0.0.1:5000", "amazonec2-insecure-transport": true}"#,
            "http://127.0.0.1:5000",
        ),
    ] {
        assert_eq!(Settings::read(text).unwrap().endpoint(), wanted, "{text}");
    }
}

#[test]
fn types_and_zones_are_lists_however_they_are_written() {
    let text = r#"{"amazonec2-instance-types": ["m6i.large, m5.large", "c5.large"],
        "amazonec2-region": "eu-west-1", "amazonec2-zones": ["b", "eu-west-1a"]}"#;
    let settings = Settings::read(text).unwrap();
    assert_eq!(
        settings.instance_types(),
        ["m6i.large", "m5.large", "c5.large"]
    );
    assert_eq!(settings.zones(), ["eu-west-1b", "eu-west-1a"]);
    let settings = Settings::default();
    assert_eq!(settings.instance_types(), ["t2.micro"]);
    assert_eq!(settings.zones(), ["us-east-1a"]);
}

#[test]
fn who_logs_in_follows_the_image_that_is_looked_up() {
    for (text, user) in [
        ("{}", "ubuntu"),
        (r#"{"amazonec2-image": "debian"}"#, "admin"),
        (
            r#"{"amazonec2-image": "debian", "amazonec2-ami": "ami-1"}"#,
            "ubuntu",
        ),
        (r#"{"amazonec2-ssh-user": "ec2-user"}"#, "ec2-user"),
    ] {
        assert_eq!(Settings::read(text).unwrap().ssh_user(), user, "{text}");
    }
}

#[test]
fn tags_are_pairs_and_a_key_without_a_value_is_left_out() {
    for (text, wanted) in [
        ("{}", &[][..]),
        (r#"{"amazonec2-tags": "team,ci"}"#, &[("team", "ci")]),
        (
            r#"{"amazonec2-tags": "a,1, b,2,c"}"#,
            &[("a", "1"), ("b", "2")],
        ),
    ] {
        let tags = Settings::read(text).unwrap().own_tags();
        let tags: Vec<_> = tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(tags, wanted, "{text}");
    }
}
