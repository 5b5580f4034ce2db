"""Nomad job templates in HCL, as package data."""
