"""Failover: who is asked, in which order, until somebody has said something; and who is left alone for a while."""
