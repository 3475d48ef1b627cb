"""The model server: KServe v1 and v2 REST and SageMaker, for models saved by torch.export."""

__version__ = "0.1.0"
