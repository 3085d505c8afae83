"""The local inbox: keeps the mail and chat that a developer's Carillon sends, and shows them."""
