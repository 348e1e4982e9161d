//! What a team needs to hold its own implementations to the promises of the seams.
