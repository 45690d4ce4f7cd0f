"""What an organization at Axiom is given: a dashboard and monitors, made of the recipes."""
