"""SageMaker Ground Truth: `service` says what is here, `state` what is remembered."""
