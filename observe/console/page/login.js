// The page comes back with ?wrong when the password was not the one.
if (location.search === '?wrong') {
  document.getElementById('wrong').hidden = false;
}
