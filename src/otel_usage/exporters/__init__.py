"""The ways out of the process. Each makes one attempt within a deadline and says what happened."""
