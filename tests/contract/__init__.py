"""The contract for people, held equal to the contract for programs."""
