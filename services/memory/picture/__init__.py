"""The picture of a store: its episodes as points of a plane, near one another where their vectors are."""
