"""What the Collector's pipelines cost, as they are shipped: processor, memory, disk and network, for each span."""
