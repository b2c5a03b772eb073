"""The languages of the pages, and the messages of other layers that are translated."""
