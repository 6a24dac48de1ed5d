use super::*;

#[test]
fn only_a_release_and_its_own_token_are_an_orderly_handover() {
    let mine = Uuid::from_u128(1);
    let state = |token, heartbeat| LeaseState { token, heartbeat, holder: String::new() };
    assert_eq!(handover(Some(&state(None, 7)), mine), Handover::Orderly);
    assert_eq!(handover(Some(&state(Some(mine), 7)), mine), Handover::Orderly);
    assert_eq!(handover(Some(&state(Some(Uuid::from_u128(2)), 7)), mine), Handover::Silent);
    assert_eq!(handover(Some(&state(None, 0)), mine), Handover::Silent);
    assert_eq!(handover(None, mine), Handover::Silent);
}

#[tokio::test(start_paused = true)]
async fn a_term_that_ended_is_not_renewed() {
    let term = Term::new(Uuid::nil(), Instant::now() + TERM);
    tokio::time::advance(TERM / 2).await;
    assert!(term.holds());
    term.renewed(Instant::now() + TERM);
    tokio::time::advance(TERM - Duration::from_millis(1)).await;
    assert!(term.holds());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!term.holds());
    term.renewed(Instant::now() + TERM);
    assert!(!term.holds(), "the work dropped meanwhile belongs to the next term");
}
