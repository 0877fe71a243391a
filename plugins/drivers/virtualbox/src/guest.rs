//! What a machine's guest additions say of it, as guest properties.

use crate::tool::VBox;
use springtide_sdk::PluginError;
use std::net::Ipv4Addr;

/// Cards that are looked at, in the order in which the second is found first: guests number them as
/// they please.
const CARDS: [u8; 4] = [1, 0, 2, 3];

/// The IPv4 address of a machine's card, by the card's hardware address; nothing while the guest has
/// not said.
pub(crate) fn address(vbox: VBox, name: &str, mac: &str) -> Result<Option<String>, PluginError> {
    for card in CARDS {
        let property = |what: &str| {
            property(
                vbox,
                name,
                &format!("/VirtualBox/GuestInfo/Net/{card}/{what}"),
            )
        };
        let same = property("MAC")?.is_some_and(|of| of.eq_ignore_ascii_case(mac));
        if same {
            let address = property("V4/IP")?;
            // Before DHCP has answered a guest may say 0.0.0.0; what is none is none.
            return Ok(address.filter(|text| {
                text.parse::<Ipv4Addr>()
                    .is_ok_and(|address| !address.is_unspecified())
            }));
        }
    }
    Ok(None)
}

/// One property; nothing where it has no value, or the machine is gone.
fn property(vbox: VBox, name: &str, key: &str) -> Result<Option<String>, PluginError> {
    let Some(text) = vbox.find(&["guestproperty", "get", name, key])? else {
        return Ok(None);
    };
    let value = text
        .lines()
        .find_map(|line| Some(line.strip_prefix("Value:")?.trim().to_owned()));
    Ok(value)
}
