//! The settings that the configurations of all sinks of messages have alike.

/// What those configurations do alike; for their `impl`. The fields are theirs, because each says
/// what it means there, and because serde refuses unknown fields only where it knows all of them.
#[doc(hidden)]
#[macro_export]
macro_rules! __message_settings {
    () => {
        /// Sets the name of the sink in its log.
        #[must_use]
        pub fn with_name(mut self, name: impl Into<String>) -> Self {
            self.name = name.into();
            self
        }

        /// Sends the events of a chain one by one.
        #[must_use]
        pub fn with_strict_order(mut self) -> Self {
            self.strict_order = true;
            self
        }

        /// Sets the most calls at a time.
        #[must_use]
        pub fn with_parallelism(mut self, calls: usize) -> Self {
            self.parallelism = calls;
            self
        }

        /// Sets for how long one batch is sent, in whole milliseconds.
        #[must_use]
        pub fn with_append_time(mut self, time: std::time::Duration) -> Self {
            self.append_time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            self
        }

        /// Sets where events go that are too large to be sent as they are.
        #[must_use]
        pub fn with_claims(mut self, claims: $crate::ClaimConfig) -> Self {
            self.claims = Some(claims);
            self
        }

        /// Sets region, endpoint, credentials and patience.
        #[must_use]
        pub fn with_aws(mut self, aws: $crate::AwsConfig) -> Self {
            self.aws = aws;
            self
        }

        pub(crate) fn append_time(&self) -> std::time::Duration {
            std::time::Duration::from_millis(self.append_time_ms)
        }

        /// Takes what the environment says of these.
        fn with_variables(
            mut self,
            variables: &$crate::internal::Variables<'_>,
        ) -> Result<Self, $crate::internal::Fault> {
            variables.set("NAME", &mut self.name)?;
            variables.set("STRICT_ORDER", &mut self.strict_order)?;
            variables.set("PARALLELISM", &mut self.parallelism)?;
            variables.set("APPEND_TIME_MS", &mut self.append_time_ms)?;
            self.claims = variables.claims();
            self.aws = variables.aws()?;
            Ok(self)
        }
    };
}
