//! A minimal WebDriver client: starts chromedriver, runs scripts in the page, types, and takes screenshots.
#![allow(dead_code, reason = "each test that includes it uses a part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Value, json};

/// A headless browser; it ends when it is dropped.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    pub(crate) fn open(width: u32, height: u32) -> Self {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver =
            command.spawn().expect("chromedriver must be installed: apt-get install chromium chromium-driver");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            line.split("started successfully on port ").nth(1)?.trim_end_matches('.').parse().ok()
        });
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Self { driver, port: port.expect("chromedriver named no port"), session: String::new() };
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", &format!("--window-size={width},{height}")];
        let options = json!({"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}});
        let session = browser.request("POST", "/session", &json!({"capabilities": {"alwaysMatch": options}}));
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        // The driver keeps the connection open, whatever the request asks.
        let (mut reader, mut length) = (BufReader::new(stream), 0);
        for line in reader.by_ref().lines() {
            let line = line.unwrap().to_lowercase();
            length = line.strip_prefix("content-length:").map_or(length, |length| length.trim().parse().unwrap());
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {}", answer["value"]);
        answer["value"].take()
    }

    fn of_session(&self, path: &str, body: &Value) -> Value {
        self.request("POST", &format!("/session/{}/{path}", self.session), body)
    }

    pub(crate) fn go(&self, address: &str) {
        self.of_session("url", &json!({"url": format!("http://{address}/")}));
    }

    /// Runs a script in the page; returns its result.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.of_session("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until a script returns true.
    pub(crate) fn until(&self, script: &str) {
        let began = Instant::now();
        while self.run(script) != true {
            let page = self.run("return document.body.innerText");
            assert!(began.elapsed() < Duration::from_secs(60), "not within 60 s: {script}\n{page}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Types a text into the element with this id, then Enter.
    pub(crate) fn type_into(&self, id: &str, text: &str) {
        let element = self.of_session("element", &json!({"using": "css selector", "value": format!("#{id}")}));
        let element = element.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.of_session(&format!("element/{element}/value"), &json!({"text": format!("{text}\u{E007}")}));
    }

    fn chrome(&self, command: &str, parameters: &Value) -> Value {
        self.of_session("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Shows the page as a phone of 390 pixels, or else a wide screen, does that prefers `light` or `dark` colours.
    pub(crate) fn emulate(&self, phone: bool, colours: &str) {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": colours}]});
        self.chrome("Emulation.setEmulatedMedia", &media);
        let (width, height) = if phone { (390, 844) } else { (1200, 900) };
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
        self.chrome("Emulation.setDeviceMetricsOverride", &screen);
        self.until(&format!(
            "return innerWidth === {width} && matchMedia('(prefers-color-scheme: {colours})').matches"
        ));
    }

    /// Writes a screenshot of the whole page to CHUNK_SYNC_SHOTS.
    pub(crate) fn shot(&self, name: &str) {
        let Some(dir) = std::env::var_os("CHUNK_SYNC_SHOTS") else { return };
        let size = self.run("return [innerWidth, document.documentElement.scrollHeight]");
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1});
        let shot = self.chrome("Page.captureScreenshot", &json!({"captureBeyondViewport": true, "clip": clip}));
        let image = BASE64.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(std::path::Path::new(&dir).join(format!("{name}.png")), image).unwrap();
    }

    /// What the page logged as an error, but for requests that the service did not answer or refused.
    pub(crate) fn errors(&self) -> Vec<String> {
        let entries = self.of_session("se/log", &json!({"type": "browser"}));
        let messages = entries.as_array().unwrap().iter().filter(|entry| entry["level"] == "SEVERE");
        let messages = messages.filter(|entry| entry["source"] != "network");
        messages.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // Ends the browser; if that fails, the driver is killed anyway.
            let session = format!("/session/{}", self.session);
            let _ =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.request("DELETE", &session, &json!({}))));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
