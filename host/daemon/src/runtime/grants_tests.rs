//! The grants of shipped plugins, held to what they are for.

use super::*;
use springtide_config::{Source, parse};

fn config(options: &[&str]) -> Config {
    let runner = |(number, options): (usize, &&str)| {
        format!(
            "[[runners]]\nname = \"r{number}\"\nurl = \"https://gitlab.example.com\"\ntoken = \"glrt-{number}abcdefgh\"\nexecutor = \"shell+machine\"\n[runners.machine]\nMachineName = \"ci-%s\"\nMachineDriver = \"amazonec2\"\nMachineOptions = [{options}]\n"
        )
    };
    let text: String = options.iter().enumerate().map(runner).collect();
    parse(&Source::of(format!("concurrent = 1\n{text}")))
        .0
        .unwrap()
}

fn origins(shipped: &Shipped) -> Vec<String> {
    shipped.grants("amazonec2").unwrap().http.unwrap().origins
}

#[test]
fn ec2_is_asked_where_the_runners_are_and_were() {
    let state = Path::new("/state");
    let first = config(&[
        "",
        "\"amazonec2-region=eu-west-1\"",
        "\"amazonec2-region=cn-north-1\"",
    ]);
    let mut shipped = Shipped::of(&first, state);
    assert_eq!(
        origins(&shipped),
        [
            "https://ec2.cn-north-1.amazonaws.com.cn",
            "https://ec2.eu-west-1.amazonaws.com",
            "https://ec2.us-east-1.amazonaws.com",
        ]
    );
    let own = config(&[
        "\"amazonec2-endpoint=ec2.internal:8443\"",
        "\"amazonec2-endpoint=127.0.0.1:5000\", \"amazonec2-insecure-transport\"",
        "\"amazonec2-endpoint=https://ec2.other/\"",
        "\"amazonec2-region=eu/../west\"",
    ]);
    assert_eq!(
        origins(&Shipped::of(&own, state)),
        [
            "http://127.0.0.1:5000",
            "https://ec2.internal:8443",
            "https://ec2.other",
        ]
    );
    shipped.reconfigure(&config(&["\"amazonec2-region=ap-south-1\""]));
    assert_eq!(
        origins(&shipped).len(),
        4,
        "machines in the others are still there"
    );
    let scope = |driver: &str, region: &str| Scope {
        driver: driver.into(),
        runner: "r".into(),
        settings: serde_json::json!({"amazonec2-region": region}),
        ..Scope::default()
    };
    assert!(shipped.note(&scope("amazonec2", "sa-east-1")));
    assert!(!shipped.note(&scope("amazonec2", "sa-east-1")));
    assert!(!shipped.note(&scope("local", "eu-north-1")));
    assert_eq!(origins(&shipped).len(), 5);
}

#[test]
fn vboxmanage_is_held_to_its_owners_machines() {
    let shipped = Shipped::of(&config(&[""]), Path::new("/state"));
    let grants = shipped.grants("virtualbox").unwrap();
    let tool = &grants.tools[VBOX_TOOL];
    assert!(grants.files && grants.http.is_none());
    assert!(tool.path.is_absolute());
    assert_eq!(tool.owned.len(), VBOX_OWNED.len(), "each rule can be read");
    let allowed: BTreeSet<&String> = tool
        .allow
        .iter()
        .flatten()
        .filter_map(|rule| rule.first())
        .collect();
    // What changes or removes something of a machine's has a rule of whose it may be.
    for command in [
        "unregistervm",
        "controlvm",
        "modifyvm",
        "storageattach",
        "setextradata",
    ] {
        assert!(allowed.contains(&command.to_owned()), "{command}");
        assert!(
            tool.owned.iter().any(|rule| rule.subcommand == command),
            "{command}"
        );
    }
    assert!(!allowed.contains(&"internalcommands".to_owned()));
}

#[test]
fn the_policy_that_is_an_example_allows_what_the_driver_may_ask_for_and_binds_what_removes() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/iam-policy.json");
    let policy: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let actions = |statement: &Value| -> Vec<String> {
        let actions = statement["Action"].as_array().unwrap().iter();
        actions
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let allowed: BTreeSet<String> = statements
        .iter()
        .flat_map(actions)
        .filter_map(|action| action.strip_prefix("ec2:").map(str::to_owned))
        .collect();
    let granted: BTreeSet<String> = EC2_ACTIONS.lines().map(str::to_owned).collect();
    assert_eq!(allowed, granted);
    for removes in EC2_ACTIONS.lines().filter(|action| {
        action.starts_with("Delete")
            || action.starts_with("Terminate")
            || action.starts_with("Cancel")
    }) {
        let name = format!("ec2:{removes}");
        for statement in statements.iter().filter(|one| actions(one).contains(&name)) {
            let bound =
                statement.pointer("/Condition/StringLike/aws:ResourceTag~1springtide:owner");
            assert!(
                bound.is_some_and(Value::is_string),
                "{removes} is bound to our mark"
            );
        }
    }
}
