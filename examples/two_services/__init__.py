"""Two services of one business, and one customer's usage across both."""
