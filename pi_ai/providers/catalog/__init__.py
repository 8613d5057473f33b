"""The data of the built-in catalogue; ``python -m pi_ai.providers.catalog`` renews it. See README.md."""
