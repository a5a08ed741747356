//! Lists, over three files.

use super::*;

crate::contract::hold!(Some(World::new(&options(3)));
    lists_are_newest_first_whatever_the_page
    a_list_that_looked_at_enough_says_where_to_go_on
);
