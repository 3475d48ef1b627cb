"""Image classification by people, through SageMaker Ground Truth."""
