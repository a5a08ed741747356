//! `models.<name>` of the configuration: what it says, and the check that makes it one we can use.

use super::super::guard::parse_url;
use no_engine::limits::{TIMER_MS_MAX, TOOL_ARGUMENTS_BYTES_MAX, TOOL_CALLS_MAX};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::path::PathBuf;

/// Answers of one script.
pub const SCRIPT_LEN_MAX: usize = 10_000;

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Any server that speaks OpenAI's chat completions.
    #[serde(rename = "openai")]
    OpenAi,
    /// A list of answers in the configuration: for demos, tests and load tests.
    Scripted,
}

/// One entry of `models`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelConfig {
    /// Who answers.
    pub provider: Provider,
    /// Where `openai` is, without `/chat/completions`. Needs no entry in the outbound allow-list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The model's name at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The environment variable that holds the key; or the one of this name with `_FILE`, a file's
    /// path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// The file that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// The model's context window, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// What its tokens cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
    /// The answers of `scripted`: iteration i gives the i-th, and the last one from there on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Vec<ScriptAnswer>>,
}

/// What tokens cost, in US dollars.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prices {
    /// A million prompt tokens.
    pub input_per_million: f64,
    /// A million answer tokens.
    pub output_per_million: f64,
}

/// One answer of a script: a text, tool calls, or both.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptAnswer {
    /// What it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<str>>,
    /// What it asks to be run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ScriptCall>,
    /// How long it takes, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}

/// One tool call of a script.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptCall {
    /// The tool.
    pub name: Box<str>,
    /// Its arguments, an object; `{}` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Box<RawValue>>,
}

type Fault = (String, String);

impl ModelConfig {
    /// Checks what types cannot say; the first fault as (JSON pointer, what to do).
    ///
    /// # Errors
    /// The pointer to the offending field and a sentence for its author.
    pub fn check(&self) -> Result<(), Fault> {
        if self.context_window == Some(0) {
            return fault("/contextWindow", "must be at least 1");
        }
        if let Some(prices) = &self.prices {
            prices.check()?;
        }
        match self.provider {
            Provider::OpenAi => self.check_openai(),
            Provider::Scripted => self.check_scripted(),
        }
    }

    fn check_openai(&self) -> Result<(), Fault> {
        let Some(base) = &self.base_url else {
            return fault("/baseUrl", "is required for provider openai");
        };
        match parse_url(base) {
            Ok(url) if url.query().is_some() => return fault("/baseUrl", "must not have a query"),
            Ok(_) => {}
            Err(why) => return fault("/baseUrl", &why.to_string()),
        }
        if self.model.as_deref().unwrap_or("").is_empty() {
            return fault("/model", "is required for provider openai");
        }
        if self.api_key_env.is_some() && self.api_key_file.is_some() {
            return fault("/apiKeyFile", "give apiKeyEnv or apiKeyFile, not both");
        }
        if self.script.is_some() {
            return fault("/script", "belongs to provider scripted");
        }
        Ok(())
    }

    fn check_scripted(&self) -> Result<(), Fault> {
        if self.base_url.is_some() {
            return fault("/baseUrl", "belongs to provider openai");
        }
        if self.api_key_env.is_some() || self.api_key_file.is_some() {
            return fault("/apiKeyEnv", "a scripted model needs no key");
        }
        let script = self.script.as_deref().unwrap_or_default();
        if script.is_empty() {
            return fault("/script", "needs at least one answer");
        }
        if SCRIPT_LEN_MAX < script.len() {
            return fault("/script", "at most 10000 answers");
        }
        script.iter().enumerate().try_for_each(|(i, answer)| {
            answer.check().map_err(|(at, detail)| (format!("/script/{i}{at}"), detail))
        })
    }
}

impl Prices {
    fn check(&self) -> Result<(), Fault> {
        for (name, price) in
            [("input", self.input_per_million), ("output", self.output_per_million)]
        {
            if !(0.0..=1e6).contains(&price) {
                return fault(&format!("/prices/{name}PerMillion"), "must be 0 to 1000000");
            }
        }
        Ok(())
    }

    /// The price of a call, in millionths of a US dollar, rounded up.
    #[must_use]
    pub fn cost_micro_usd(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        // A price per million tokens in dollars is a price per token in millionths of them.
        let input = input_tokens as f64 * self.input_per_million;
        let output = output_tokens as f64 * self.output_per_million;
        (input + output).ceil() as u64
    }
}

impl ScriptAnswer {
    fn check(&self) -> Result<(), Fault> {
        if self.text.is_none() && self.tool_calls.is_empty() {
            return fault("", "needs text or tool_calls");
        }
        if TOOL_CALLS_MAX < self.tool_calls.len() {
            return fault("/tool_calls", "at most 64");
        }
        if self.delay_ms.is_some_and(|ms| TIMER_MS_MAX < ms) {
            return fault("/delay_ms", "is too long");
        }
        for (k, call) in self.tool_calls.iter().enumerate() {
            let Some(arguments) = &call.arguments else { continue };
            if !arguments.get().starts_with('{') || TOOL_ARGUMENTS_BYTES_MAX < arguments.get().len()
            {
                let at = format!("/tool_calls/{k}/arguments");
                return fault(&at, "must be an object of at most 64 KiB");
            }
        }
        Ok(())
    }
}

fn fault(pointer: &str, detail: &str) -> Result<(), Fault> {
    Err((pointer.to_owned(), detail.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Result<(), &str>) {
        let config: ModelConfig = serde_json::from_str(json).expect(json);
        let got = config.check().map_err(|(pointer, _)| pointer);
        assert_eq!(got, expected.map_err(str::to_owned), "{json}");
    }

    #[test]
    fn faults_are_named_by_pointer() {
        let open = r#"{"provider":"openai","baseUrl":"http://h/v1","model":"m""#;
        check(&format!("{open}}}"), Ok(()));
        check(
            &format!(r#"{open},"prices":{{"inputPerMillion":1,"outputPerMillion":2}}}}"#),
            Ok(()),
        );
        check(
            &format!(r#"{open},"prices":{{"inputPerMillion":-1,"outputPerMillion":2}}}}"#),
            Err("/prices/inputPerMillion"),
        );
        check(&format!(r#"{open},"apiKeyEnv":"A","apiKeyFile":"b"}}"#), Err("/apiKeyFile"));
        check(&format!(r#"{open},"script":[]}}"#), Err("/script"));
        check(&format!(r#"{open},"contextWindow":0}}"#), Err("/contextWindow"));
        check(r#"{"provider":"openai","model":"m"}"#, Err("/baseUrl"));
        check(r#"{"provider":"openai","baseUrl":"http://u@h","model":"m"}"#, Err("/baseUrl"));
        check(r#"{"provider":"openai","baseUrl":"http://h?a","model":"m"}"#, Err("/baseUrl"));
        check(r#"{"provider":"openai","baseUrl":"http://h"}"#, Err("/model"));
        check(r#"{"provider":"scripted"}"#, Err("/script"));
        check(r#"{"provider":"scripted","script":[{"text":"a"}]}"#, Ok(()));
        check(r#"{"provider":"scripted","script":[{"text":"a"},{}]}"#, Err("/script/1"));
        check(
            r#"{"provider":"scripted","script":[{"tool_calls":[{"name":"t","arguments":1}]}]}"#,
            Err("/script/0/tool_calls/0/arguments"),
        );
    }

    #[test]
    fn unknown_fields_are_refused() {
        for json in [
            r#"{"provider":"scripted","colour":1}"#,
            r#"{"provider":"other"}"#,
            r#"{"provider":"scripted","script":[{"text":"a","x":1}]}"#,
        ] {
            assert!(serde_json::from_str::<ModelConfig>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn cost_is_rounded_up_to_a_millionth() {
        let prices = Prices { input_per_million: 0.15, output_per_million: 0.6 };
        assert_eq!(prices.cost_micro_usd(1_000_000, 0), 150_000);
        assert_eq!(prices.cost_micro_usd(0, 1_000_000), 600_000);
        assert_eq!(prices.cost_micro_usd(1, 0), 1);
        assert_eq!(prices.cost_micro_usd(0, 0), 0);
    }
}
