//! Invokes a function in Lambda with one signed request. The Lambda SDK would be used for nothing else, and it is the largest of
//! the AWS SDKs. Knows nothing about events and reports.
//!
//! Facts: "Invoke" in the Lambda API Reference.

use std::sync::Arc;

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use reqwest::{StatusCode, header::HeaderMap};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Invoke, RefresherFunction, Reply};
use crate::{
    aws_request::{AwsService, MAX_DETAIL_CHARS, endpoint_from_vars, regional_endpoint},
    error::InvalidSetting,
    http_client::{HttpClients, read_bounded},
    reader::error::NotRefreshed,
    region,
    sanitize::sanitize_line,
};

/// Reports and errors of a refresher are shorter.
const MAX_RESPONSE_BYTES: usize = 256 * 1024;

pub(super) struct Lambda {
    service: AwsService,
    url: String,
}

impl RefresherFunction {
    /// A function in Lambda, by its name or ARN, with settings from the environment that Lambda sets:
    ///
    /// - Region: the one in the ARN, else `AWS_REGION`.
    /// - Credentials: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
    /// - Endpoint: `AWS_ENDPOINT_URL_LAMBDA`, else `AWS_ENDPOINT_URL`, else that of the Region.
    ///
    /// Needs `lambda:InvokeFunction` on the function. Makes no call.
    ///
    /// Outside Lambda credentials have other sources and change: use `lambda_with` (feature `secrets-manager`).
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] if one of these is missing or wrong.
    ///
    /// ```
    /// # use token_refresher::reader::RefresherFunction;
    /// let problem = RefresherFunction::lambda("no function's name!").unwrap_err().to_string();
    /// assert_eq!(
    ///     problem,
    ///     "the refresher function is \"no function's name!\"; allowed is a function's name or ARN",
    /// );
    /// ```
    pub fn lambda(function: impl Into<String>) -> Result<Self, InvalidSetting> {
        Self::lambda_from_vars(function.into(), |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// A function in Lambda, by its name or ARN, with the Region, credentials and endpoint of an SDK configuration.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`] if the configuration has no Region or no credentials provider.
    ///
    /// ```
    /// # use token_refresher::reader::RefresherFunction;
    /// # use aws_config::{Region, SdkConfig};
    /// // Usually `aws_config::load_defaults(…).await`.
    /// let config = SdkConfig::builder().region(Region::new("eu-central-1")).build();
    /// let problem = RefresherFunction::lambda_with("token-refresher", &config).unwrap_err();
    /// assert_eq!(problem.to_string(), "the SDK's configuration has no credentials provider");
    /// ```
    #[cfg(feature = "secrets-manager")]
    pub fn lambda_with(function: impl Into<String>, config: &aws_config::SdkConfig) -> Result<Self, InvalidSetting> {
        let missing = |what: &str| InvalidSetting::new(format!("the SDK's configuration has no {what}"));
        let credentials = config.credentials_provider().ok_or_else(|| missing("credentials provider"))?;
        let region = config.region().map(ToString::to_string);
        let endpoint = config.endpoint_url().map(str::to_owned);
        Self::lambda_at(function.into(), region, credentials, |name| {
            let set = std::env::var(name).ok().filter(|value| !value.is_empty());
            // The same order as in the SDK. Its configuration already contains the variable for all services.
            if name == "AWS_ENDPOINT_URL" { endpoint.clone().or(set) } else { set }
        })
    }

    fn lambda_from_vars(function: String, var: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidSetting> {
        check_function(&function)?;
        let key = |name: &str| {
            var(name).ok_or_else(|| {
                InvalidSetting::new(format!(
                    "{name} is not set; Lambda sets it, and a request to Lambda is signed with it. Outside Lambda use `lambda_with`"
                ))
            })
        };
        let credentials = Credentials::new(
            key("AWS_ACCESS_KEY_ID")?,
            key("AWS_SECRET_ACCESS_KEY")?,
            var("AWS_SESSION_TOKEN"),
            None,
            "environment",
        );
        Self::lambda_at(function, var("AWS_REGION"), SharedCredentialsProvider::new(credentials), var)
    }

    fn lambda_at(
        function: String,
        region: Option<String>,
        credentials: SharedCredentialsProvider,
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidSetting> {
        check_function(&function)?;
        let arn_region = region::of_arn(&function).map(str::to_owned);
        let region = arn_region.or(region).unwrap_or_default();
        region::check(&region, "the function")?;
        let endpoint = endpoint_from_vars("LAMBDA", &var)?.unwrap_or_else(|| regional_endpoint("lambda", &region));
        let path = function.replace(':', "%3A").replace('$', "%24");
        let url = format!("{endpoint}/2015-03-31/functions/{path}/invocations");
        let service = AwsService { http: HttpClients::new(var)?.store, name: "lambda", region, credentials };
        let lambda = Lambda { service, url };
        Ok(Self { name: function, secret_id: None, invoke: Invoke::Lambda(Arc::new(lambda)) })
    }
}

fn check_function(function: &str) -> Result<(), InvalidSetting> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:$.".contains(&byte);
    if (1..=170).contains(&function.len()) && function.bytes().all(allowed) {
        return Ok(());
    }
    Err(InvalidSetting::found("the refresher function", function, "a function's name or ARN"))
}

impl Lambda {
    /// Invokes the function and waits for its response.
    pub(super) async fn invoke(&self, payload: String) -> Result<Reply, NotRefreshed> {
        let unavailable = |detail: &str| NotRefreshed::Unavailable { detail: detail.to_owned() };
        let request = self.service.signed_post(&self.url, &[("content-type", "application/json")], payload).await;
        let request = request.map_err(&unavailable)?;
        let response = self.service.send("Lambda", request).await.map_err(|problem| unavailable(&problem))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_bounded(response, MAX_RESPONSE_BYTES).await;
        match body {
            Ok(body) => read_response(status, &headers, &body),
            // The function was invoked. What it did shows in the secret.
            Err(_) if status.is_success() => Ok(Reply::Report(json!({"outcome": "unknown"}))),
            Err(problem) => Err(unavailable(&format!("Lambda answered {status}, but {problem}"))),
        }
    }
}

/// Interprets Lambda's response.
fn read_response(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<Reply, NotRefreshed> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if status.is_success() {
        let payload: Value = serde_json::from_slice(body).unwrap_or_default();
        return Ok(match header("x-amz-function-error") {
            None => Reply::Report(payload),
            Some(kind) => {
                let member = |name: &str| payload[name].as_str().map(str::to_owned);
                Reply::Error {
                    error_type: member("errorType").unwrap_or_else(|| kind.to_owned()),
                    message: member("errorMessage").unwrap_or_default(),
                }
            }
        });
    }
    // "TooManyRequestsException": the function's or the account's concurrency is used up.
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Ok(Reply::Busy);
    }
    let error: LambdaError = serde_json::from_slice(body).unwrap_or_default();
    let code = header("x-amzn-errortype").and_then(|kind| kind.split(':').next()).unwrap_or("no error type");
    let detail = format!(
        "{}, {}: {}",
        status.as_u16(),
        sanitize_line(code, 64),
        sanitize_line(&error.message, MAX_DETAIL_CHARS)
    );
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => NotRefreshed::AccessDenied { detail },
        _ if status.is_server_error() => NotRefreshed::Unavailable { detail: format!("Lambda answered {detail}") },
        _ => NotRefreshed::Rejected { detail },
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LambdaError {
    #[serde(alias = "Message")]
    message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [(&str, &str); 3] =
        [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", "eu-central-1")];

    fn url(function: &str, more: &[(&str, &str)]) -> Result<String, String> {
        let var = |name: &str| more.iter().chain(&KEYS).find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let function = RefresherFunction::lambda_from_vars(function.to_owned(), |name| {
            var(name).filter(|value| !value.is_empty())
        });
        match function.map_err(|problem| problem.to_string())?.invoke {
            Invoke::Lambda(lambda) => Ok(lambda.url.clone()),
            Invoke::Function(_) => panic!("not Lambda"),
        }
    }

    #[test]
    fn the_endpoint_follows_the_region_in_the_arn_or_the_environment() {
        for (function, more, expected) in [
            (
                "token-refresher",
                &[][..],
                "https://lambda.eu-central-1.amazonaws.com/2015-03-31/functions/token-refresher/invocations",
            ),
            (
                "token-refresher:$LATEST",
                &[],
                "https://lambda.eu-central-1.amazonaws.com/2015-03-31/functions/token-refresher%3A%24LATEST/invocations",
            ),
            (
                "arn:aws-cn:lambda:cn-north-1:123456789012:function:f",
                &[],
                "https://lambda.cn-north-1.amazonaws.com.cn/2015-03-31/functions/\
                 arn%3Aaws-cn%3Alambda%3Acn-north-1%3A123456789012%3Afunction%3Af/invocations",
            ),
            (
                "f",
                &[("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:1/"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:2")],
                "http://127.0.0.1:1/2015-03-31/functions/f/invocations",
            ),
        ] {
            assert_eq!(url(function, more).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_missing_or_wrong_setting_is_named() {
        for (function, more, expected) in [
            ("", &[][..], "the refresher function is \"\"; allowed is a function's name or ARN"),
            ("a/b", &[], "the refresher function is \"a/b\"; allowed is a function's name or ARN"),
            (
                "f",
                &[("AWS_ACCESS_KEY_ID", "")],
                "AWS_ACCESS_KEY_ID is not set; Lambda sets it, and a request to Lambda is signed with it. Outside Lambda use `lambda_with`",
            ),
            (
                "f",
                &[("AWS_REGION", "")],
                "AWS_REGION is not set; it is the Region of the function, such as \"eu-central-1\"",
            ),
            (
                "f",
                &[("AWS_REGION", "a/b")],
                "AWS_REGION is \"a/b\"; allowed is the name of a Region, such as \"eu-central-1\"",
            ),
            ("f", &[("AWS_ENDPOINT_URL", "lambda")], "AWS_ENDPOINT_URL is \"lambda\"; allowed is an https or http URL"),
        ] {
            assert_eq!(url(function, more).unwrap_err(), expected);
        }
    }

    #[test]
    fn each_response_of_lambda_becomes_a_reply_or_an_error() {
        let failed = |error_type: &str, message: &str| Reply::Error {
            error_type: error_type.to_owned(),
            message: message.to_owned(),
        };
        let kind = ("x-amzn-errortype", "SomeException:http://internal");
        for (status, header, body, expected) in [
            (200, None, r#"{"outcome":"refreshed"}"#, Ok(Reply::Report(serde_json::json!({"outcome": "refreshed"})))),
            (200, None, "", Ok(Reply::Report(Value::Null))),
            (
                200,
                Some(("x-amz-function-error", "Unhandled")),
                r#"{"errorType":"Panicked","errorMessage":"m"}"#,
                Ok(failed("Panicked", "m")),
            ),
            (200, Some(("x-amz-function-error", "Unhandled")), "", Ok(failed("Unhandled", ""))),
            (429, Some(kind), r#"{"message":"Rate Exceeded."}"#, Ok(Reply::Busy)),
            (
                403,
                Some(kind),
                r#"{"Message":"not authorized"}"#,
                Err(NotRefreshed::AccessDenied { detail: "403, SomeException: not authorized".to_owned() }),
            ),
            (
                404,
                Some(kind),
                r#"{"Message":"Function not found"}"#,
                Err(NotRefreshed::Rejected { detail: "404, SomeException: Function not found".to_owned() }),
            ),
            (
                502,
                None,
                "<html>",
                Err(NotRefreshed::Unavailable { detail: "Lambda answered 502, no error type: ".to_owned() }),
            ),
        ] {
            let mut headers = HeaderMap::new();
            if let Some((name, value)) = header {
                headers.insert(name, value.parse().unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(read_response(status, &headers, body.as_bytes()), expected, "{status} {body}");
        }
    }
}
