"""Which examples a network sees again, and when: review along the forgetting curve, and what it is measured against."""
