"""The methods of the reliability contract (section 7): what finds faults that nobody thought of."""
