//! A Lambda function that reads one token and returns its version.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};
#[cfg(any(feature = "extension", feature = "secrets-manager"))]
use token_refresher::{Reader, reader::Source};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    #[cfg(any(feature = "extension", feature = "secrets-manager"))]
    {
        #[cfg(feature = "extension")]
        let source = Source::extension_from_env()?;
        #[cfg(not(feature = "extension"))]
        let source = Source::secrets_manager_from_env().await?;
        let builder = Reader::builder(source, std::env::var("SECRET_ID")?);
        #[cfg(feature = "extension-invoke")]
        let builder = builder.refresher(token_refresher::reader::RefresherFunction::lambda("token-refresher")?);
        let reader = builder.build();
        lambda_runtime::run(service_fn(async |_: LambdaEvent<Value>| {
            let token = reader.access_token().await?;
            Ok::<_, Error>(json!({"versionId": token.version_id().as_str(), "expiresAt": token.expires_at().map(|at| at.timestamp())}))
        }))
        .await
    }
    #[cfg(not(any(feature = "extension", feature = "secrets-manager")))]
    lambda_runtime::run(service_fn(async |_: LambdaEvent<Value>| Ok::<_, Error>(json!({})))).await
}
