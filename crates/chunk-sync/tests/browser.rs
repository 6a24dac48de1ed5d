//! The status page in a real browser against the running program: `cargo xtask browser`. Needs Debian's chromium and
//! chromium-driver, so CI does not run it. Writes screenshots to the directory in CHUNK_SYNC_SHOTS, if it is set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "browser/driver.rs"]
mod driver;
#[path = "api/service.rs"]
mod service;

use serde_json::json;

use driver::Browser;
use service::{Service, TOKEN, chunk, event};

/// Reads the text of the element with this id.
fn text(id: &str) -> String {
    format!("return document.getElementById('{id}').textContent")
}

#[test]
#[ignore = "needs chromium and chromedriver; run `cargo xtask browser`"]
fn the_page_shows_the_service_and_the_operator_acts_on_it() {
    let service = Service::start();
    let (first, mut second, mut third) = (chunk(), chunk(), chunk());
    second["content"] = "a content by claude".into();
    third["content"] = "a content by cognee <b>not markup</b>".into();
    service.publish(&json!([event("claude", &first, 1), event("cognee", &first, 2)]));
    service.publish(&json!([event("claude", &second, 3), event("cognee", &third, 4)]));
    service.add(vec![(b"type".to_vec(), b"nothing<script>".to_vec())]);
    let browser = Browser::open(1200, 900);
    browser.go(&service.address());

    // Locked until the token is entered, by keyboard.
    browser.until("return document.getElementById('state').textContent === 'Locked'");
    assert_eq!(browser.run("return document.activeElement.id"), "token");
    browser.type_into("token", "a-wrong-token-of-sixteen");
    browser.until("return document.getElementById('ask-wrong').textContent === 'Wrong token.'");
    browser.type_into("token", TOKEN);
    browser.until("return document.getElementById('state').textContent === 'Ready'");
    browser
        .until("return [...document.querySelectorAll('#stores .pill')].every(pill => pill.textContent === 'In sync')");
    browser.until("return document.querySelectorAll('#conflicts details').length >= 1");
    browser.shot("embedded-light");

    // A conflict with its sides; data is text, never markup.
    browser.run("document.querySelector('#conflicts summary').click()");
    browser.until("return document.querySelectorAll('#conflicts .side').length >= 4");
    assert!(
        browser
            .run("return document.getElementById('conflicts').textContent")
            .as_str()
            .unwrap()
            .contains("<b>not markup</b>")
    );
    assert_eq!(browser.run("return document.querySelectorAll('main b b, main script').length"), 0);

    // A chunk that a store holds in another form.
    let path = "$.content', 'written by hand'";
    service.file().execute(&format!("UPDATE points SET payload = json_set(payload, '{path})"), []).unwrap();
    browser.type_into("look-id", first["id"].as_str().unwrap());
    browser.until("return document.querySelector('#looked .differs')?.textContent.includes('written by hand')");
    browser.shot("embedded-differs");

    // The dead letter is dropped by the second click.
    browser.until("return document.querySelectorAll('#dead details').length === 1");
    browser.run("document.querySelector('#dead summary').click()");
    browser.until("return document.querySelector('#dead .fields')?.textContent.includes('nothing<script>')");
    browser.run("document.querySelector('#dead button.danger').click()");
    browser.run("document.querySelector('#dead button.danger').click()");
    browser.until("return document.getElementById('done').textContent.startsWith('Dropped letter')");
    assert_eq!(service.found("/v1/dead")["total"], 0);

    // Dark, and on a phone nothing is wider than the screen.
    browser.emulate(true, "dark");
    assert_eq!(browser.run("return document.documentElement.scrollWidth <= innerWidth"), true);
    browser.shot("embedded-phone-dark");

    // Every control has a name, and every image.
    let unnamed = "return [...document.querySelectorAll('button, input, [role=img]')].filter(e => e.offsetParent !== null && \
        !(e.textContent.trim() || e.labels?.length || e.getAttribute('aria-label'))).length";
    assert_eq!(browser.run(unnamed), 0);

    // The service is killed and comes back on the same address.
    let (address, service) = (service.address(), service.kill());
    browser.until("return document.getElementById('silence').textContent.startsWith('The service does not respond')");
    browser.shot("embedded-killed");
    let service = service.start_again(&address);
    browser.until(
        "return document.getElementById('state').textContent === 'Ready' && document.getElementById('silence').hidden",
    );
    assert!(browser.run(&text("about")).as_str().unwrap().contains("Version"));
    assert_eq!(browser.errors(), Vec::<String>::new());
    drop(service);
}
