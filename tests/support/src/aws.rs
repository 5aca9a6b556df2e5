//! Users of the emulator of Amazon's services that checks policies.

use std::net::SocketAddr;

use crate::service::Request;

/// An access key of a new user who may do what a policy says and nothing else: its id and secret.
///
/// # Panics
/// Where the emulator does not make one.
#[must_use]
pub fn user_with_policy(emulator: SocketAddr, name: &str, policy: &str) -> (String, String) {
    let user = ("UserName", name);
    ask(emulator, &[("Action", "CreateUser"), user]);
    grant(emulator, name, policy);
    let key = ask(emulator, &[("Action", "CreateAccessKey"), user]);
    let element = |name: &str| {
        let (_, rest) = key.split_once(&format!("<{name}>")).expect("the answer has a key");
        rest.split('<').next().unwrap_or_default().to_owned()
    };
    (element("AccessKeyId"), element("SecretAccessKey"))
}

/// Lets a user do what a policy says, and nothing else.
///
/// # Panics
/// Where there is no such user.
pub fn grant(emulator: SocketAddr, name: &str, policy: &str) {
    let policy = ("PolicyDocument", policy);
    let (user, only) = (("UserName", name), ("PolicyName", "only"));
    ask(emulator, &[("Action", "PutUserPolicy"), user, only, policy]);
}

/// Lets a user do nothing any more.
///
/// # Panics
/// Where there is no such user, or it may do nothing already.
pub fn revoke(emulator: SocketAddr, name: &str) {
    let (user, only) = (("UserName", name), ("PolicyName", "only"));
    ask(emulator, &[("Action", "DeleteUserPolicy"), user, only]);
}

fn ask(emulator: SocketAddr, parameters: &[(&str, &str)]) -> String {
    let pairs = [("Version", "2010-05-08")].iter().chain(parameters);
    let body: Vec<String> =
        pairs.map(|(name, value)| format!("{name}={}", encode(value))).collect();
    // The emulator's root; it verifies no signatures.
    let authorization = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/iam/aws4_request, \
                         SignedHeaders=host, Signature=00";
    let headers = [
        ("host", emulator.to_string()),
        ("content-type", "application/x-www-form-urlencoded".to_owned()),
        ("authorization", authorization.to_owned()),
    ];
    let request = Request {
        method: "POST".to_owned(),
        target: "/".to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        body: body.join("&").into_bytes(),
    };
    let response = request.forward(emulator);
    let text = String::from_utf8(response.body).unwrap();
    assert_eq!(response.status, 200, "{text}");
    text
}

fn encode(text: &str) -> String {
    let byte = |b: u8| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).into(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_encoded_for_a_form() {
        assert_eq!(encode(r#"{"a": "b/*"}é"#), "%7B%22a%22%3A%20%22b%2F%2A%22%7D%C3%A9");
    }
}
