"""Amazon FSx for Lustre: `service` says what is here, `state` what is remembered."""
