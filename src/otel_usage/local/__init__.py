"""The embedded sink: an OTLP/HTTP receiver that answers as Axiom does, a DuckDB store and its report.

Importing this package loads none of them: the receiver runs without the extra ``[local]``, which only the store needs.
"""
